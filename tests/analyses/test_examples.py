"""What the page says of latents is what brute force over the whole store finds."""

import jax.numpy as jnp
import numpy as np
import pytest

import dictlearn
from dictlearn import lm as language
from dictlearn.analyses import examples
from dictlearn.analyses._passages import AFTER, BEFORE
from dictlearn.analyses.examples import direct_logits, study
from dictlearn.lm.cells import group
from dictlearn.streams import store
from tests.report.conftest import TAP, WORDS


@pytest.fixture(scope="module")
def lm(model):
    return language.load(**model)


@pytest.fixture(scope="module")
def dictionary(spoken):
    return dictlearn.restore(spoken)[0]


@pytest.fixture(scope="module")
def stream(spoken):
    return {"name": "store", "path": str(spoken.parent / "store")}


@pytest.fixture(scope="module")
def found(dictionary, lm, stream):
    return study(dictionary, lm, stream)


@pytest.fixture(scope="module")
def truth(dictionary, lm, stream):
    """(tokens_ST, activations [S, T, F], documents as lists of flat positions), the slow way."""
    tokens_ST, mask_ST = store.tokens(stream["path"], "train")
    _, taps = lm.forward(lm.params, jnp.asarray(tokens_ST))
    codes = dictionary.encode(taps[TAP].reshape(-1, taps[TAP].shape[-1]))
    val_UF = np.array(dictlearn.dense(codes, dictionary.module.n_latents))
    val_UF[~mask_ST.ravel()] = 0
    documents = [[]]
    for place, token in enumerate(tokens_ST.ravel().tolist()):
        if token == lm.separator:
            documents.append([])
        else:
            documents[-1].append(place)
    return tokens_ST, val_UF, [d for d in documents if d]


def test_a_study_shows_latents_from_rare_to_dense_within_its_bounds(found, truth):
    _, val_UF, _ = truth
    assert len(found.latents) >= 6
    densities = [latent.density for latent in found.latents]
    assert densities == sorted(densities)
    for latent in found.latents:
        fired = int((val_UF[:, latent.index] != 0).sum())
        assert fired == latent.n_fired >= examples.FEWEST
        assert latent.density == pytest.approx(fired / found.n_tokens)
        assert latent.density <= examples.DENSEST


def test_passages_are_the_largest_activations_one_a_document(found, truth):
    _, val_UF, documents = truth
    for latent in found.latents:
        of_F = val_UF[:, latent.index]
        peaks = sorted((float(of_F[d].max()) for d in documents), reverse=True)
        shown = [passage.val for passage in latent.passages]
        expected = [peak for peak in peaks[: examples.PASSAGES] if peak > 0]
        np.testing.assert_allclose(shown, expected, rtol=1e-3)
        assert latent.largest == shown[0]


def test_a_passage_holds_the_text_around_its_peak(found, truth, lm):
    tokens_ST, val_UF, documents = truth
    whole = {lm.tokenizer.decode(tokens_ST.ravel()[d].tolist()) for d in documents}
    for latent in found.latents:
        top = int(val_UF[:, latent.index].argmax())
        token = lm.tokenizer.decode([int(tokens_ST.flat[top])])
        first = latent.passages[0]
        assert token in first.cells[first.peak].text or "\ufffd" in token
        for passage in latent.passages:
            text = "".join(cell.text for cell in passage.cells)
            assert any(text.strip("\ufffd") in document for document in whole)
            assert passage.val == pytest.approx(passage.cells[passage.peak].val, rel=1e-5)
            assert len(passage.cells) <= BEFORE + 1 + AFTER


def test_every_cell_of_a_passage_has_its_own_activation(found, truth, lm):
    """Where several contexts are the same and tie for the largest, the passage is one of them."""
    tokens_ST, val_UF, documents = truth
    for latent in found.latents:
        val_U = val_UF[:, latent.index]
        first = latent.passages[0]
        shown = [cell.val for cell in first.cells]
        matches = []
        for top in np.flatnonzero(val_U >= (1 - 1e-3) * val_U.max()).tolist():
            document = next(d for d in documents if top in d)
            width = tokens_ST.shape[1]
            here = [place for place in document if place // width == top // width]
            cells = group(lm.tokenizer, tokens_ST.flat[here].tolist())
            expected = [val_U[here][members].max() for _, members in cells]
            at = next(i for i, (_, members) in enumerate(cells) if here.index(top) < members.stop)
            start = at - first.peak
            part = expected[max(start, 0) : max(start, 0) + len(shown)]
            matches.append(
                start >= 0
                and len(part) == len(shown)
                and np.allclose(shown, part, rtol=1e-3, atol=1e-6)
            )
        assert any(matches)


def test_a_passage_says_whether_its_document_goes_on(found, truth, lm):
    tokens_ST, _, documents = truth
    whole = [lm.tokenizer.decode(tokens_ST.flat[d].tolist()) for d in documents]
    passages = [passage for latent in found.latents for passage in latent.passages]
    for passage in passages:
        text = "".join(cell.text for cell in passage.cells).strip("\ufffd")
        assert passage.cut_before or any(document.startswith(text) for document in whole)
        assert passage.cut_after or any(document.endswith(text) for document in whole)
    for side in ("cut_before", "cut_after"):
        assert {getattr(passage, side) for passage in passages} == {True, False}


def test_a_latent_beside_one_with_the_same_peak_token_is_passed_over(found, truth):
    tokens_ST, val_UF, _ = truth
    peaks = [int(tokens_ST.flat[val_UF[:, latent.index].argmax()]) for latent in found.latents]
    assert len(set(peaks)) == len(peaks)


def test_logits_are_the_atom_through_the_gain_and_the_unembedding(found, dictionary, lm):
    W_dec_FD = np.asarray(dictionary.variables["params"]["W_dec_FD"], np.float64)
    gain_D, embed_VD = np.asarray(lm.params["norm_D"]), np.asarray(lm.params["embed_VD"])
    for latent in found.latents:
        weights = [float(sum(W_dec_FD[latent.index] * gain_D * row_D)) for row_D in embed_VD]
        ranked = sorted(range(len(weights)), key=weights.__getitem__, reverse=True)
        for shown, tokens in ((latent.logits.top, ranked), (latent.logits.bottom, ranked[::-1])):
            expected = [weights[v] for v in tokens[: examples.LOGITS]]
            np.testing.assert_allclose([weight for _, weight in shown], expected, rtol=1e-4)
            for (text, _), token in zip(shown, tokens, strict=False):
                alone = lm.tokenizer.decode([token], skip_special_tokens=False)
                assert text == (f"[byte {token}]" if "\ufffd" in alone else alone)


def test_a_tap_off_the_residual_stream_has_no_logits(dictionary, lm):
    assert direct_logits(dictionary, lm, ["mlp_in.1"], [0, 1]) == [None, None]
    assert all(direct_logits(dictionary, lm, ["mlp_out.1"], [0, 1]))


def test_fewer_tokens_are_read_where_they_would_be_too_many(dictionary, lm, stream, monkeypatch):
    monkeypatch.setattr(examples, "N_TOKENS", 500)
    calls = []
    found = study(dictionary, lm, stream, progress=lambda *counts: calls.append(counts))
    _, mask_ST = store.tokens(stream["path"], "train")
    assert 500 - mask_ST.shape[1] < found.n_tokens <= 500
    assert found.n_tokens == mask_ST[: found.n_sequences].sum()
    assert calls[-1] == (found.n_tokens, found.n_tokens)


def test_a_store_without_a_fitting_latent_gives_an_empty_study(dictionary, lm, stream, monkeypatch):
    monkeypatch.setattr(examples, "FEWEST", 10**9)
    assert study(dictionary, lm, stream).latents == []


def test_cells_spell_the_text_and_tear_no_character(lm):
    random = np.random.default_rng(0)
    for _ in range(50):
        text = " ".join(random.choice(WORDS, size=5))
        tokens = lm.tokenizer.encode(text, add_special_tokens=False).ids
        cells = group(lm.tokenizer, tokens)
        assert "".join(cell for cell, _ in cells) == text
        assert not any("\ufffd" in cell for cell, _ in cells)
        assert [m.start for _, m in cells[1:]] == [m.stop for _, m in cells[:-1]]


def test_bytes_that_are_no_text_become_a_mark_and_lose_nothing_else(lm):
    tokens = lm.tokenizer.encode("é a", add_special_tokens=False).ids
    text = "".join(cell for cell, _ in group(lm.tokenizer, tokens[1:]))
    assert text == "\ufffd a"
