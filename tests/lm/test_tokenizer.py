"""Tokenizers built from GGUF metadata: exact round trips, and no silent stand-ins."""

import json

import pytest

from dictlearn.lm.tokenizer import from_file, from_gguf, separator_of_folder

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
    metadata = toy.tokenizer_metadata() | {"tokenizer.ggml.pre": "tekken"}
    known = "'gpt2' with 'tekken'; known: 'gpt2' with 'smollm', 'llama-bpe', 'qwen2'"
    with pytest.raises(ValueError, match=known):
        from_gguf(metadata)


def test_a_missing_key_is_named():
    metadata = toy.tokenizer_metadata()
    del metadata["tokenizer.ggml.merges"]
    with pytest.raises(ValueError, match=r"tokenizer\.ggml\.merges"):
        from_gguf(metadata)


@pytest.mark.parametrize(
    ("pre", "pieces"),
    [
        ("smollm", ["I", "'m", "Ġ", "1", "2", "3", "4", "5", "Ġok", "Ċ"]),
        ("llama-bpe", ["I", "'m", "Ġ", "123", "45", "Ġok", "Ċ"]),
        ("qwen2", ["I", "'m", "Ġ", "1", "2", "3", "4", "5", "Ġok", "Ċ"]),
    ],
)
def test_each_pre_tokenizer_splits_as_its_model_does(pre, pieces):
    tokenizer = from_gguf(toy.tokenizer_metadata() | {"tokenizer.ggml.pre": pre})
    found = tokenizer.pre_tokenizer.pre_tokenize_str("I'm 12345 ok\n")
    assert [piece for piece, _ in found] == pieces


def test_the_separator_of_a_folder_is_the_end_of_sequence_or_the_beginning(tmp_path):
    tokenizer = from_gguf(toy.tokenizer_metadata())
    found = lambda **config: separator_of_folder(tokenizer, tmp_path, {"vocab_size": 259, **config})
    assert found(eos_token_id=5, bos_token_id=6) == 5
    assert found(eos_token_id=[7, 8]) == 7
    assert found(bos_token_id=6, eos_token_id=None) == 6
    with pytest.raises(ValueError, match=r"eos_token_id.*259"):
        found(eos_token_id=259)
    with pytest.raises(ValueError, match=r"eos_token_id.*bos_token_id.*sep_token"):
        found()
    special = {"bos_token": "nowhere", "eos_token": {"content": "<|im_end|>"}}
    (tmp_path / "special_tokens_map.json").write_text(json.dumps(special))
    assert found() == 258


def test_a_damaged_tokenizer_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"tokenizer\.json"):
        from_file(tmp_path / "tokenizer.json")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=r"tokenizer\.json: "):
        from_file(tmp_path / "tokenizer.json")
