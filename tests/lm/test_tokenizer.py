"""Tokenizers built from GGUF metadata: exact round trips, and no silent stand-ins."""

import pytest

from dictlearn.lm.tokenizer import from_gguf

from . import toy

TEXTS = [
    "The quick brown fox, 1234567 times; then the end.",
    "naïve café — 東京 🙂\t\ttabs\n\n  spaces \r\n",
    "def f(x):\n    return x**2  # 3.14159",
    "",
]


@pytest.mark.parametrize("text", TEXTS)
def test_any_text_survives_a_round_trip_exactly(smollm2, text):
    ids = smollm2.tokenizer.encode(text, add_special_tokens=False).ids
    assert smollm2.tokenizer.decode(ids, skip_special_tokens=False) == text


@pytest.mark.parametrize("text", TEXTS)
def test_any_text_survives_a_byte_level_vocabulary(text):
    tokenizer = from_gguf(toy.tokenizer_metadata())
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_merges_apply_and_digits_stand_alone():
    tokens = from_gguf(toy.tokenizer_metadata()).encode("the 12").tokens
    assert tokens == ["th", "e", "Ġ", "1", "2"]


def test_words_are_single_tokens_and_digits_stand_alone(smollm2):
    assert smollm2.tokenizer.encode("The capital of 407").tokens == [
        *("The", "Ġcapital", "Ġof", "Ġ", "4", "0", "7")
    ]


def test_control_tokens_are_special_and_keep_their_ids(smollm2):
    assert smollm2.separator == 0
    assert smollm2.tokenizer.token_to_id("<|im_end|>") == 2
    encoded = smollm2.tokenizer.encode("one<|endoftext|>two")
    assert encoded.tokens == ["one", "<|endoftext|>", "two"]
    assert smollm2.tokenizer.decode(encoded.ids) == "onetwo"


def test_an_unknown_pre_tokenizer_is_refused():
    metadata = toy.tokenizer_metadata() | {"tokenizer.ggml.pre": "llama-bpe"}
    with pytest.raises(ValueError, match="'gpt2' with 'llama-bpe'; known: 'gpt2' with 'smollm'"):
        from_gguf(metadata)


def test_a_missing_key_is_named():
    metadata = toy.tokenizer_metadata()
    del metadata["tokenizer.ggml.merges"]
    with pytest.raises(ValueError, match=r"lacks tokenizer\.ggml\.merges\."):
        from_gguf(metadata)
