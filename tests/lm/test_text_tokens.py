"""Sequences: text packed, or tokens taken as they are, under the same split and masks."""

import json
import pickle

import numpy as np
import pytest
import safetensors.numpy

from dictlearn.lm import text
from dictlearn.lm.tokenizer import from_gguf

from . import toy

TOKENIZER = from_gguf(toy.tokenizer_metadata())
SEPARATOR = TOKENIZER.token_to_id("<|endoftext|>")
TOKENS = np.random.default_rng(0).integers(0, SEPARATOR, (60, 8))


def sequences(source, length=8, **options):
    return text.sequences(source, TOKENIZER, length, SEPARATOR, **options)


def write(path, tokens, **more):
    if path.suffix == ".npy":
        np.save(path, tokens)
    elif path.suffix == ".npz":
        np.savez(path, input_ids=tokens, **more)
    else:
        safetensors.numpy.save_file({"tokens": tokens, **more}, path)
    return path


def rows(side):
    return sorted(map(tuple, side[0].tolist()))


@pytest.mark.parametrize("ending", [".npy", ".npz", ".safetensors"])
@pytest.mark.parametrize("dtype", [np.uint16, np.int64])
def test_every_sequence_is_on_one_side_whatever_the_file(tmp_path, ending, dtype):
    train, rest = sequences(write(tmp_path / f"a{ending}", TOKENS.astype(dtype)), held_out=0.3)
    assert sorted(rows(train) + rows(rest)) == sorted(map(tuple, TOKENS.tolist()))
    assert len(train[0]) > len(rest[0]) > 0
    assert rows(train) != list(map(tuple, train[0].tolist()))
    for tokens_ST, mask_ST in (train, rest):
        assert tokens_ST.dtype == np.int32
        np.testing.assert_array_equal(mask_ST, np.arange(8) * np.ones_like(tokens_ST) > 0)


def test_a_run_of_tokens_is_cut_and_files_are_joined(tmp_path):
    (tmp_path / "t").mkdir()
    write(tmp_path / "t" / "a.npy", TOKENS[:20].ravel()[:-3])
    write(tmp_path / "t" / "b.npz", TOKENS[20:])
    train, rest = sequences(tmp_path / "t", held_out=0.0)
    assert rest[0].shape == rest[1].shape == (0, 8)
    assert rows(train) == sorted(map(tuple, np.delete(TOKENS, 19, axis=0).tolist()))
    few, _ = sequences(tmp_path / "t", held_out=0.0, n_documents=21)
    assert rows(few) == sorted(map(tuple, np.delete(TOKENS[:22], 19, axis=0).tolist()))


@pytest.mark.parametrize("ending", [".npz", ".safetensors"])
def test_padding_and_special_tokens_are_masked_unless_asked_for(tmp_path, ending):
    tokens_ST, kept_ST = TOKENS.copy(), np.arange(8) < np.arange(60)[:, None] % 7 + 2
    tokens_ST[:, 1] = SEPARATOR
    tokens_ST[::2, 0] = 5
    path = write(tmp_path / f"a{ending}", tokens_ST, attention_mask=kept_ST.astype(np.int64))
    given = {tuple(row): kept.tolist() for row, kept in zip(tokens_ST, kept_ST, strict=True)}
    plain, _ = sequences(path, held_out=0.0)
    open_, _ = sequences(path, held_out=0.0, special=False, first=0)
    pad, _ = sequences(path, held_out=0.0, special=False, first=0, pad=5)
    for i in range(60):
        kept_T = np.array(given[tuple(plain[0][i])])
        np.testing.assert_array_equal(plain[1][i], kept_T & (np.arange(8) > 1))
        np.testing.assert_array_equal(open_[1][i], kept_T)
        np.testing.assert_array_equal(pad[1][i], kept_T & (plain[0][i] != 5))


def test_text_gives_what_documents_and_pack_give(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": f"document {i}"}) + "\n" for i in range(100)))
    sides = text.documents(path, seed=3, held_out=0.2)
    for packed, side in zip(sequences(path, seed=3, held_out=0.2), sides, strict=True):
        for mine, wanted in zip(packed, text.pack(side, TOKENIZER, 8, SEPARATOR), strict=True):
            np.testing.assert_array_equal(mine, wanted)
    assert sequences(path, held_out=0.0)[1][0].shape == (0, 8)


@pytest.mark.parametrize(
    ("tokens", "problem"),
    [
        (TOKENS.astype(np.float32), r".*float32.*\(60, 8\)"),
        (TOKENS[None], r".*int64.*\(1, 60, 8\)"),
        (TOKENS[:, :5], r".*\b5\b.*length=8"),
        (TOKENS - 1000, r".*-\d+.*0\.\.258"),
        (TOKENS.astype(np.uint64) + 2**63, r".*\d{19}.*0\.\.258"),
        (TOKENS[0, :5], r".*length=8"),
    ],
)
def test_tokens_that_cannot_be_meant_are_refused(tmp_path, tokens, problem):
    with pytest.raises(ValueError, match=rf"a\.npy: {problem}"):
        sequences(write(tmp_path / "a.npy", tokens))


def test_masks_that_cannot_be_meant_are_refused(tmp_path):
    left = np.arange(8) * np.ones((60, 1), int) > 2
    for mask, problem in (
        (left, "padding before tokens; pad on the right"),
        (2 * left, "not of zeros and ones"),
        (left[:3], r"not of zeros and ones of shape \(60, 8\)"),
    ):
        with pytest.raises(ValueError, match=f"attention_mask .*{problem}"):
            sequences(write(tmp_path / "a.npz", TOKENS, attention_mask=mask))


def test_a_pickle_is_never_loaded(tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    np.save(tmp_path / "a.npy", np.array([Trap()], object), allow_pickle=True)
    (tmp_path / "b.npy").write_bytes(pickle.dumps(Trap()))
    (tmp_path / "c.npz").write_bytes(pickle.dumps(Trap()))
    np.savez(tmp_path / "d.npz", input_ids=np.array([Trap()], object), allow_pickle=True)
    (tmp_path / "e.safetensors").write_bytes(b"nothing")
    for name in ("a.npy", "b.npy", "c.npz", "d.npz", "e.safetensors"):
        with pytest.raises(ValueError, match=rf"{name}: .*{name[2:]}"):
            sequences(tmp_path / name)


def test_kinds_do_not_mix_and_tokens_are_no_documents(tmp_path):
    write(tmp_path / "a.npy", TOKENS)
    with pytest.raises(ValueError, match=r"a\.npy"):
        text.documents(tmp_path / "a.npy")
    (tmp_path / "b.txt").write_text("text")
    with pytest.raises(ValueError, match=r"text.*tokens"):
        sequences(tmp_path)
    np.savez(tmp_path / "c.npz", labels=TOKENS)
    with pytest.raises(ValueError, match=r"c\.npz.*input_ids.*tokens"):
        sequences(tmp_path / "c.npz")
    with pytest.raises(ValueError, match=r"length=8.*\b9\b.*first=8"):
        sequences(tmp_path / "a.npy", first=8)
