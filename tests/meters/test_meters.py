"""Meters give the published values, in any partition of the tokens into batches."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn import dictionaries, meters
from dictlearn.meters import Reading, Subject, loss_recovered, reconstruction
from dictlearn.ops import lengths
from dictlearn.types import Codes

Y = np.array([[3, 4, 0], [0, 0, 5], [1, 2, 2], [-4, 0, 3]], np.float32)
YHAT = np.array([[3, 3, 0], [0, 0, 4], [1, 1, 2], [-2, 0, 3]], np.float32)

WANTED = {
    "mse": 0.583333,
    "sse_per_token": 1.75,
    "l2_loss": 1.25,
    "fvu": 0.14,
    "explained_variance": 0.86,
    "explained_variance_legacy": 0.738240,
    "fve_varratio": 0.905,
    "nmse_token": 0.0877778,
    "nmse_global": 0.0833333,
    "r2_per_dim": 0.862471,
    "cossim": 0.971380,
    "l2_ratio": 0.796534,
    "relative_reconstruction_bias": 0.815385,
}


def subject(n_latents=2, **more):
    return Subject(dictionaries.make("relu", d_in=3, n_latents=n_latents, sparsity=0.1), **more)


def measured(y, yhat, cuts=(), mask=None, codes=None):
    mask = np.ones(len(y), bool) if mask is None else mask
    codes = np.zeros((len(y), 2), np.float32) if codes is None else codes
    meter = meters.make("reconstruction", subject())
    totals = meter.init()
    edges = [0, *cuts, len(y)]
    for a, b in itertools.pairwise(edges):
        arrays = (jnp.asarray(v[a:b]) for v in (y, yhat, codes, mask))
        y_BD, yhat_BD, codes_BF, mask_B = arrays
        sums = reconstruction.measure(Reading(y_BD, yhat_BD, Codes(codes_BF), mask_B))
        totals = meter.update(totals, sums)
    return meter.result(totals)


def test_explained_variance_by_source_is_that_of_each_source_alone_in_any_partition():
    two = [np.hstack([rows, rows[::-1] * 3]) for rows in (Y, YHAT)]
    two[1][:, 3:] *= 0.5
    two_sources = dictionaries.make("crosscoder", d_in=6, n_latents=4, k=2, sources=2)
    meter, totals = meters.make("reconstruction", Subject(two_sources)), {}
    for part in (slice(0, 1), slice(1, 4)):
        y, yhat = (jnp.asarray(rows[part]) for rows in two)
        codes = Codes(jnp.zeros((len(y), 2)))
        sums = meter.measure(Reading(y, yhat, codes, jnp.ones(len(y), bool)))
        totals = meter.update(totals, sums)
    alone = [
        measured(two[0][:, s], two[1][:, s])["explained_variance"] for s in (slice(3), slice(3, 6))
    ]
    found = meter.result(totals)["explained_variance_by_source"]
    np.testing.assert_allclose(found, alone, atol=1e-6)
    assert found[0] > found[1]
    assert "explained_variance_by_source" not in measured(Y, YHAT)


def test_every_convention_has_its_exact_value():
    found = measured(Y, YHAT)
    for name, value in WANTED.items():
        assert found[name] == pytest.approx(value, abs=1e-6), name


def test_dimensions_that_never_vary_are_left_out_of_the_mean_over_dimensions():
    still = np.stack([np.zeros(4), np.full(4, 2), [0, 0, 0, 1e-9]], 1).astype(np.float32)
    found = measured(np.hstack([Y, still]), np.hstack([YHAT, still + 0.1]))
    assert found["r2_per_dim"] == pytest.approx(WANTED["r2_per_dim"], abs=1e-6)


def test_any_partition_into_ragged_batches_gives_the_same():
    random = np.random.default_rng(0)
    y = random.normal(3.0, 1.0, (21, 5)).astype(np.float32)
    yhat = y + random.normal(0.1, 0.3, y.shape).astype(np.float32)
    whole = measured(y, yhat)
    for cuts in [(7,), (14,), (7, 14)]:
        parts = measured(y, yhat, cuts)
        for name in whole:
            if name != "explained_variance_legacy":  # it is defined by the batch's own mean
                assert parts[name] == pytest.approx(whole[name], rel=1e-5), name


def test_masked_tokens_count_for_nothing_even_if_they_are_wild():
    mask = np.array([True, False, True, True, False])
    wild = np.vstack([Y, [[1e30, np.nan, 0]]]).astype(np.float32)
    found = measured(wild, np.vstack([YHAT, YHAT[:1]]), mask=mask)
    kept = measured(Y[[0, 2, 3]], YHAT[[0, 2, 3]])
    assert found == pytest.approx(kept, rel=1e-5)


def test_shrinkage_by_a_constant_is_read_exactly():
    found = measured(Y, 0.7 * Y)
    assert found["relative_reconstruction_bias"] == pytest.approx(0.7, rel=1e-5)
    assert found["l2_ratio"] == pytest.approx(0.7, rel=1e-5)
    assert found["cossim"] == pytest.approx(1.0, rel=1e-5)
    assert found["nmse_token"] == pytest.approx(0.09, rel=1e-4)


def test_a_constant_bias_is_punished_by_fvu_and_forgiven_by_the_variance_ratio():
    biased = measured(Y, YHAT + 2.0)
    assert biased["fve_varratio"] == pytest.approx(WANTED["fve_varratio"], abs=1e-5)
    assert biased["explained_variance"] < WANTED["explained_variance"] - 0.1
    moved = measured(Y + 50.0, YHAT + 50.0)
    assert moved["fvu"] == pytest.approx(WANTED["fvu"], rel=1e-4)
    mean = np.broadcast_to(Y.mean(0), Y.shape)
    assert measured(Y, mean)["explained_variance"] == pytest.approx(0.0, abs=1e-6)


def test_nothing_measured_is_an_error():
    with pytest.raises(ValueError, match="no unmasked token"):
        reconstruction.result(meters.make("reconstruction", subject()).init())


@pytest.mark.parametrize("form", ["dense", "sparse"])
def test_firing_densities(form):
    codes = np.zeros((100, 4), np.float32)
    codes[0, 1], codes[:20, 2], codes[:, 3] = 2.0, 1.0, 3.0
    meter = meters.make("firing", subject(4))
    totals = meter.init()
    for part in (slice(0, 30), slice(30, 100)):
        rows = codes[part]
        given = Codes(jnp.asarray(rows))
        if form == "sparse":
            idx = np.broadcast_to(np.arange(4), rows.shape)
            given = Codes(jnp.asarray(rows), jnp.asarray(idx))
        mask = jnp.ones(len(rows), bool)
        y = jnp.zeros((len(rows), 2))
        totals = meter.update(totals, meter.measure(Reading(y, y, given, mask)))
    found = meter.result(totals)
    assert found["frac_alive"] == 0.75
    assert found["dead_fraction"] == 0.25
    assert found["freq_over_1_percent"] == 0.5
    assert found["normalized_freq_over_10_percent"] == pytest.approx(1.2 / 1.21)
    assert found["l0_quantiles"]["0.5"] == 1
    assert found["l0_quantiles"]["0.95"] == 2
    assert sum(found["density_histogram"]["latents"]) == 4
    np.testing.assert_array_equal(totals["largest_F"], [0, 2, 1, 3])


def logits(*rows):
    return jnp.log(jnp.asarray(rows, jnp.float32))[None]


def test_kl_and_its_score_have_their_exact_values():
    tokens, mask = jnp.array([[0, 0]]), jnp.array([[True, True]])
    original = logits((0.5, 0.5), (0.3, 0.7))
    spliced = logits((0.6, 0.4), (0.9, 0.1))  # the last position predicts nothing
    ablated = logits((0.9, 0.1), (0.1, 0.9))
    runs = {"original": original, "spliced": spliced, "ablated": ablated}
    sums = {k: loss_recovered.losses(v, original, tokens, mask) for k, v in runs.items()}
    found = loss_recovered.result(sums)
    assert found["kl_ablated"] == pytest.approx(0.510826, abs=1e-5)
    assert found["kl"] == pytest.approx(0.020411, abs=1e-5)
    assert found["kl_score"] == pytest.approx(0.960043, abs=1e-5)
    assert found["ce_tokens"] == 1


def test_the_original_scores_one_and_the_ablation_zero_and_masked_positions_do_not_count():
    random = np.random.default_rng(1)
    tokens = jnp.asarray(random.integers(0, 7, (2, 6)))
    mask = jnp.asarray(random.random((2, 6)) < 0.5).at[0, 0].set(True)
    original, ablated = (jnp.asarray(random.normal(size=(2, 6, 7)), jnp.float32) for _ in range(2))
    at = lambda each: loss_recovered.losses(each, original, tokens, mask)
    for spliced, score in ((original, 1.0), (ablated, 0.0)):
        runs = {"original": at(original), "spliced": at(spliced), "ablated": at(ablated)}
        assert loss_recovered.result(runs)["ce_score"] == pytest.approx(score, abs=1e-6)
        assert loss_recovered.result(runs)["kl_score"] == pytest.approx(score, abs=1e-6)
    wild = jnp.where(mask[..., None], original, 1e4)
    assert float(at(wild)["ce"]) == pytest.approx(float(at(original)["ce"]))


@pytest.mark.parametrize("tokens", [1, 5])
def test_shares_of_what_fires_are_undefined_if_nothing_fires(tokens):
    meter = meters.make("firing", subject(4))
    y, codes = jnp.ones((tokens, 2)), Codes(jnp.zeros((tokens, 4)))
    reading = Reading(y, y, codes, jnp.ones(tokens, bool))
    found = meter.result(meter.update(meter.init(), meter.measure(reading)))
    assert np.isnan(found["effective_latents"])
    assert np.isnan(found["normalized_freq_over_1_percent"])
    assert (found["dead_fraction"], found["l0_quantiles"]["0.5"]) == (1, 0)


@pytest.mark.parametrize("ruled_out", [(), (2,), (0, 2)])
def test_a_model_that_rules_tokens_out_has_a_finite_divergence(ruled_out):
    original = jnp.zeros((1, 2, 4)).at[..., list(ruled_out)].set(-jnp.inf)
    found = loss_recovered.losses(original, original, jnp.ones((1, 2), int), jnp.ones((1, 2), bool))
    assert (found["kl"], found["n"]) == (0, 1)
    assert found["ce"] == pytest.approx(np.log(4 - len(ruled_out)))


def test_scores_are_undefined_where_ablation_changes_nothing():
    sums = {"n": np.float64(3), "ce": np.float64(2), "kl": np.float64(0), "agree": np.float64(3)}
    found = loss_recovered.result(dict.fromkeys(loss_recovered.RUNS, sums))
    assert np.isnan([found["ce_score"], found["kl_score"]]).all()
    assert (found["ce_delta"], found["kl"]) == (0, 0)


@pytest.mark.parametrize("scale", [1e-20, 1e-8, 1.0, 1e8, 1e19])
def test_lengths_and_unit_rows_at_any_scale(scale):
    rows = np.array([[3, 4], [0, 0], [1e-12, 0]], np.float32) * np.float32(scale)
    np.testing.assert_allclose(lengths.length(rows, -1), np.hypot(*rows.T), rtol=1e-6)
    unit = [[0.6, 0.8], [0, 0], [1, 0]]
    np.testing.assert_allclose(lengths.unit_rows(jnp.asarray(rows)), unit, rtol=1e-6)
    assert lengths.explained_variance(rows, 0.5 * rows) == pytest.approx(1 - 6.25 / (50 / 3))
    assert np.isnan(lengths.explained_variance(rows[[0, 0]], rows[[0, 0]]))
