"""Windows and samples of a latent, and the latents like it, against their definitions."""

import numpy as np
import pytest

from dictlearn import events
from dictlearn.events import Events, near, windows
from tests.events.conftest import job

SEPARATOR = 10
"""Of the text of `conftest.job`, where it is every 11th token."""


def of_values(val_E, n_places=None):
    """Events of one latent, at consecutive places of one sequence."""
    n = n_places or len(val_E)
    tokens_ST = np.arange(n, dtype=np.int32)[None]
    edges = np.array([0, len(val_E)])
    largest_F = np.abs(val_E).max(keepdims=True)
    return Events(edges, np.arange(len(val_E)), val_E, largest_F, tokens_ST, tokens_ST >= 0)


@pytest.fixture(scope="module")
def found(dense_UF):
    return events.gather(job(dense_UF))


def test_intervals_of_uniform_activations_have_equal_shares():
    val_E = 1 - np.random.default_rng(0).random(20_000).astype(np.float32)
    val_E[0] = 1
    drawn = windows.intervals(of_values(val_E), 0, n=10, each=5)
    assert [one.share for one in drawn] == pytest.approx([0.1] * 10, abs=0.01)
    assert sum(one.share for one in drawn) == pytest.approx(1)
    assert drawn[0].high == 1
    for one in drawn:
        assert len(set(one.place_P.tolist())) == 5
        assert (val_E[one.place_P] > one.low).all()
        assert (val_E[one.place_P] <= one.high + 1e-7).all()
    again = windows.intervals(of_values(val_E), 0, n=10, each=5)
    assert all((a.place_P == b.place_P).all() for a, b in zip(drawn, again, strict=True))


def test_the_histogram_counts_every_activation_once_by_magnitude():
    val_E = np.array([-4.0, 1, 3.99, 0.01], np.float32)
    assert windows.histogram(of_values(val_E), 0, 4).tolist() == [1, 1, 0, 2]


def test_windows_stay_in_their_document_and_their_sequence(found):
    limits, length = windows.bounds(found.tokens_ST, SEPARATOR), found.length
    tokens_U = found.tokens_ST.reshape(-1)
    for place in range(tokens_U.size):
        shown = limits.around(place, before=4, after=2)
        assert shown.start <= place < shown.stop <= place + 3
        assert place // length == shown.start // length == (shown.stop - 1) // length
        assert SEPARATOR not in tokens_U[shown][:-1]
        longer = place - 5 < shown.start or tokens_U[shown.start - 1] == SEPARATOR
        assert longer or shown.start % length == 0


def test_top_windows_are_sorted_unique_and_never_begin_with_a_peak_at_a_masked_token(found):
    limits, mask_U = windows.bounds(found.tokens_ST, SEPARATOR), found.mask_ST.reshape(-1)
    for latent in range(found.n_latents):
        place_E, val_E = found.of(latent)
        peaks = windows.top(found, latent, 5, limits)
        values = [float(val_E[place_E == peak][0]) for peak in peaks]
        assert values == sorted(values, reverse=True)
        assert mask_U[peaks].all()
        shown = [limits.around(peak) for peak in peaks.tolist()]
        assert all(sum(own.start <= peak < own.stop for peak in peaks) == 1 for own in shown)
        words = {found.tokens_ST.reshape(-1)[own].tobytes() for own in shown}
        assert len(words) == len(peaks)
        if len(val_E):
            assert values[0] == val_E.max()
    assert not len(windows.top(found, 7, 5, limits))


def test_quantiles_are_slices_of_the_rank_of_windows():
    val_E = np.zeros(3200, np.float32)
    val_E[::32] = np.random.default_rng(0).permutation(100) + 1
    slices = windows.quantiles(of_values(val_E), 0, n=10, each=10)
    for q, window_W in enumerate(slices):
        assert sorted(val_E[32 * window_W]) == list(range(10 * q + 1, 10 * q + 11))
    with pytest.raises(ValueError, match="length=7 must divide"):
        windows.maxima(of_values(val_E), 0, length=7)


def test_pooled_windows_hold_the_codes_of_their_tokens(found, dense_UF):
    windows_UF = dense_UF.reshape(-1, 4, found.n_latents)
    for latent in range(found.n_latents):
        tokens_WT, val_WT = windows.pooled(found, latent, length=4)
        fires = windows_UF[:, :, latent].any(1)
        order = np.argsort(-windows_UF[fires, :, latent].max(1), kind="stable")
        np.testing.assert_array_equal(val_WT, windows_UF[fires, :, latent][order])
        np.testing.assert_array_equal(tokens_WT, found.tokens_ST.reshape(-1, 4)[fires][order])


def pearson(a, b):
    return np.corrcoef(a, b)[0, 1] if a.std() and b.std() else 0.0


@pytest.fixture(scope="module")
def doubled(dense_UF):
    """Codes whose latent 20 is twice latent 3, on the tokens that were read."""
    codes_UF = dense_UF.copy()
    codes_UF[:, 20] = 2 * codes_UF[:, 3]
    return codes_UF


def test_correlations_are_those_of_numpy_and_never_with_itself(doubled, monkeypatch):
    monkeypatch.setattr(near, "_BLOCK", 300)
    cached = events.gather(job(doubled))
    found = near.pearson(cached, n=4)
    read_UF = doubled[cached.mask_ST.reshape(-1)].astype(np.float64)
    for latent in range(cached.n_latents):
        every = {j: pearson(read_UF[:, latent], read_UF[:, j]) for j in range(cached.n_latents)}
        del every[latent]
        together = {j for j in every if (read_UF[:, latent] * read_UF[:, j]).any()}
        wanted = sorted((r for j, r in every.items() if r > 0 and j in together), reverse=True)[:4]
        np.testing.assert_allclose([r for _, r in found.of(latent)], wanted, atol=1e-6)
        assert all(every[j] == pytest.approx(r, abs=1e-6) for j, r in found.of(latent))
    assert found.of(3)[0] == (20, pytest.approx(1))
    assert found.of(7) == []


def test_latents_that_fire_together_are_found_by_their_tokens(doubled):
    cached = events.gather(job(doubled))
    found, fires_UF = near.jaccard(cached, n=3), doubled > 0
    for latent in range(cached.n_latents):
        for other, score in found.of(latent):
            both = (fires_UF[:, latent] & fires_UF[:, other]).sum()
            assert score == pytest.approx(both / (fires_UF[:, latent] | fires_UF[:, other]).sum())
    assert found.of(20)[0] == (3, 1.0)


def test_the_nearest_by_cosine_leave_out_zeros_and_opposites():
    rows_FD = np.array([[1.0, 0], [3, 0.3], [-1, 0], [0, 0], [0, 2]])
    found = near.cosine(rows_FD, n=9)
    assert [one for one, _ in found.of(0)] == [1]
    assert found.of(0)[0][1] == pytest.approx(3 / np.hypot(3, 0.3))
    assert found.of(2) == found.of(3) == []


def test_the_first_sequences_are_a_cache_of_their_own(found, dense_UF):
    few = found.first(9)
    np.testing.assert_array_equal(few.count_F, (dense_UF[: 9 * found.length] > 0).sum(0))
    np.testing.assert_array_equal(few.largest_F, dense_UF[: 9 * found.length].max(0))
    assert found.first(1000) is found
