"""A token that the embedding has no row for is refused wherever tokens enter, by its id and its text."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tokenizers import AddedToken

from dictlearn.circuits import replacement
from dictlearn.lm import LM, bert, bert_model, load, pack, sequences
from dictlearn.lm.spec import Spec
from dictlearn.lm.tokenizer import from_gguf
from dictlearn.streams._source import Recipe, Source

from . import toy

VOCAB = toy.SPEC.vocab
NAMED = rf"\b{VOCAB}\b \('<tool>'\).*\b{VOCAB} rows.*0\.\.{VOCAB - 1}"
BARE = rf"\b{VOCAB}\b.*\b{VOCAB} rows.*0\.\.{VOCAB - 1}"
TEXTS = ["the cat <tool> sat"] * 9


@pytest.fixture
def lm():
    """A toy whose tokenizer has one token more than its embedding."""
    made = toy.toy_lm()
    tokenizer = from_gguf(toy.tokenizer_metadata())
    tokenizer.add_tokens([AddedToken("<tool>", special=False)])
    assert tokenizer.token_to_id("<tool>") == VOCAB
    return LM(made.name, made.spec, made.params, tokenizer, 257, {}, made.forward)


def written(path):
    """A file of text with that token, or of its id; by the ending."""
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    else:
        tokens_ST = np.arange(72).reshape(9, 8)
        tokens_ST[4, 3] = VOCAB
        np.save(path, tokens_ST)
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.npy"])
def test_text_and_arrays_are_refused_before_the_model_runs(lm, tmp_path, name):
    path = written(tmp_path / name)
    recipe = Recipe.of(taps="resid.1", text=path, sequence_length=8, shard_rows=8)
    with pytest.raises(ValueError, match=NAMED):
        Source(lm, recipe)
    with pytest.raises(ValueError, match=NAMED):
        sequences(path, lm.tokenizer, 8, lm.separator, vocab=VOCAB)
    whole = sequences(path, lm.tokenizer, 8, lm.separator, held_out=0.0, vocab=VOCAB + 1)[0]
    assert whole.tokens_ST.max() == VOCAB


def test_a_separator_in_packed_text_counts_as_a_token_of_it(lm):
    with pytest.raises(ValueError, match=NAMED):
        pack(["the cat"] * 9, lm.tokenizer, 8, VOCAB, vocab=VOCAB)


@pytest.mark.parametrize("make", [np.array, jnp.array])
@pytest.mark.parametrize("token", [VOCAB, -1])
def test_a_prompt_is_refused_and_a_compiled_program_is_left_alone(lm, make, token):
    tokens_BT = make([[1, token, 2]])
    with pytest.raises(ValueError, match=rf"{token}\b.*\b{VOCAB} rows"):
        lm.forward(lm.params, tokens_BT)
    jax.jit(lm.forward)(lm.params, tokens_BT)


def test_sequences_kept_from_another_model_are_refused(lm):
    tokens_ST = np.full((8, 4), VOCAB)
    with pytest.raises(ValueError, match=NAMED):
        replacement.passes(lm, [None], tokens_ST, np.ones((8, 4), bool))


def test_a_sentence_is_refused_by_an_encoder(lm):
    spec = bert_model.BertSpec(1, 8, 2, 16, VOCAB, 256)
    encoder = LM("bert", spec, {}, lm.tokenizer, 0, {}, bert_model.forward)
    with pytest.raises(ValueError, match=NAMED):
        bert.embed_sentences(encoder, TEXTS)
    with pytest.raises(ValueError, match=BARE):
        bert_model.forward(spec, {}, np.array([[VOCAB]]))


@pytest.mark.parametrize("metadata", [{"tokenizer.ggml.eos_token_id": np.uint32(99)}, {}])
def test_a_gguf_file_whose_separator_is_outside_is_refused(tmp_path, metadata):
    """The end of sequence, and `<|endoftext|>`, token 257, of an embedding of 40 rows."""
    spec, params = toy.toy(spec=Spec(1, 12, 4, 2, 6, 20, 40))
    tokenizer = toy.tokenizer_metadata()
    if metadata:
        tokenizer["tokenizer.ggml.tokens"] = [
            one.replace("<|endoftext|>", "<end>") for one in tokenizer["tokenizer.ggml.tokens"]
        ]
    path = toy.write_gguf(tmp_path / "a.gguf", spec, params, tokenizer | metadata)
    with pytest.raises(ValueError, match=rf"{99 if metadata else 257}\b.*40 rows"):
        load("x", path)
