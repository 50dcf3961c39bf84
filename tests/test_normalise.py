"""Normalisation: estimated as defined, undone exactly, folded without changing the function."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn import normalise
from dictlearn.normalise import Norm
from dictlearn.types import Batch

D, D_OUT, B = 12, 7, 64
affine = pytest.mark.parametrize("kind", normalise.AFFINE_KINDS)


def draws(*shape, scale=1.0, seed=0):
    return (scale * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def raw_batch():
    return Batch(3 + draws(B, D, scale=4.0), draws(B, D_OUT, scale=0.2, seed=1))


def test_mean_norm_sqrt_d_gives_mean_norm_sqrt_d():
    batch = normalise.apply(normalise.estimate("mean_norm_sqrt_d", [raw_batch()]), raw_batch())
    assert np.linalg.norm(batch.x_BD, axis=1).mean() == pytest.approx(np.sqrt(D), rel=1e-5)
    assert np.linalg.norm(batch.y_BD, axis=1).mean() == pytest.approx(np.sqrt(D_OUT), rel=1e-5)


def test_unit_mean_sq_gives_mean_squared_norm_one():
    batch = normalise.apply(normalise.estimate("unit_mean_sq", [raw_batch()]), raw_batch())
    assert (batch.x_BD**2).sum(1).mean() == pytest.approx(1, rel=1e-5)
    assert (batch.y_BD**2).sum(1).mean() == pytest.approx(1, rel=1e-5)


def test_token_kinds_normalise_every_token():
    x = raw_batch().x_BD
    layer, _ = normalise.forward(Norm("token_layernorm"), x)
    unit, _ = normalise.forward(Norm("token_unit"), x)
    np.testing.assert_allclose(layer.mean(1), 0, atol=1e-5)
    np.testing.assert_allclose(layer.std(1), 1, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-5)


def test_a_zero_token_stays_zero_under_token_unit():
    x_n, undo = normalise.forward(Norm("token_unit"), np.zeros((2, D), np.float32))
    assert not x_n.any()
    assert not undo(x_n).any()


@pytest.mark.parametrize("kind", normalise.KINDS)
def test_undo_inverts_forward_in_numpy_and_under_jit(kind):
    x = raw_batch().x_BD
    norm = normalise.estimate(kind, [Batch(x, x)])

    def there_and_back(x_BD):
        x_n, undo = normalise.forward(norm, x_BD)
        return x_n, undo(x_n)

    x_n, back = there_and_back(x)
    assert isinstance(x_n, np.ndarray)
    np.testing.assert_allclose(back, x, atol=1e-5)
    traced_n, traced_back = jax.jit(there_and_back)(jnp.asarray(x))
    np.testing.assert_allclose(traced_n, x_n, atol=1e-5)
    np.testing.assert_allclose(traced_back, x, atol=1e-5)


def test_undo_of_a_transcoder_uses_the_scale_of_the_target():
    norm = normalise.estimate("unit_mean_sq", [raw_batch()])
    _, undo = normalise.forward(norm, raw_batch().x_BD)
    normed = normalise.apply(norm, raw_batch())
    np.testing.assert_allclose(undo(normed.y_BD), raw_batch().y_BD, atol=1e-6)


def test_an_autoencoder_batch_stays_one_array():
    x = raw_batch().x_BD
    for kind in normalise.KINDS:
        batch = normalise.apply(normalise.estimate(kind, [Batch(x, x)]), Batch(x, x))
        assert batch.y_BD is batch.x_BD


def test_estimate_does_not_depend_on_how_tokens_are_batched():
    x = 100 + draws(1000, D, seed=2)
    whole = normalise.estimate("mean_norm_sqrt_d", [Batch(x, x)])
    parts = normalise.estimate("mean_norm_sqrt_d", [Batch(p, p) for p in np.split(x, [1, 400])])
    assert parts.scale_in == pytest.approx(whole.scale_in, rel=1e-6)


def test_estimate_stops_once_it_has_seen_enough_tokens():
    read = []

    def batches():
        while True:
            read.append(1)
            x = draws(100, D)
            yield Batch(x, x)

    normalise.estimate("unit_mean_sq", batches(), n_tokens=950)
    assert len(read) == 10


@pytest.mark.parametrize("kind", normalise.TOKEN_KINDS)
def test_per_token_kinds_refuse_a_transcoder(kind):
    with pytest.raises(ValueError, match=kind):
        normalise.apply(Norm(kind), raw_batch())


@pytest.mark.parametrize("kind", normalise.KINDS)
def test_a_norm_is_its_kind_and_its_arrays(kind):
    x = raw_batch().x_BD
    norm = normalise.estimate(kind, [Batch(x, x)])
    assert Norm(kind, **normalise.arrays(norm)) == norm
    assert {leaf.dtype for leaf in jax.tree.leaves(norm)} == {np.dtype(np.float32)}
    for name, leaf in normalise.arrays(norm).items():
        assert dataclasses.replace(norm, **{name: 2 * leaf}) != norm


def test_a_norm_is_an_argument_of_a_program_that_is_compiled_once_a_kind():
    x = raw_batch().x_BD
    forward = jax.jit(lambda norm, x_BD: normalise.forward(norm, x_BD)[0])
    for norm in (Norm("unit_mean_sq", 2.0), Norm("unit_mean_sq", 3.0)):
        np.testing.assert_array_equal(forward(norm, x), normalise.forward(norm, x)[0])
    assert forward._cache_size() == 1


def test_arrays_of_another_kind_are_refused():
    with pytest.raises(ValueError, match=r"mean_D and matrix_DD.*token_unit"):
        Norm("token_unit", mean_D=np.zeros(3), matrix_DD=np.eye(3))
    with pytest.raises(ValueError, match="standardise"):
        Norm("standardise", mean_D=np.zeros(3))


def test_an_unknown_kind_lists_the_kinds():
    with pytest.raises(ValueError, match=r"unit_men_sq.*mean_norm_sqrt_d, unit_mean_sq"):
        Norm("unit_men_sq")
    with pytest.raises(ValueError, match="unit_men_sq"):
        normalise.estimate("unit_men_sq", [raw_batch()])


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_a_scale_must_be_positive_and_finite(scale):
    with pytest.raises(ValueError, match="scale_out"):
        Norm("unit_mean_sq", 1.0, scale)


def test_nothing_and_zeros_cannot_be_estimated_from():
    zeros = np.zeros((B, D), np.float32)
    with pytest.raises(ValueError, match="unit_mean_sq"):
        normalise.estimate("unit_mean_sq", [])
    with pytest.raises(ValueError, match=r"unit_mean_sq.*\b0\.0"):
        normalise.estimate("unit_mean_sq", [Batch(zeros, zeros)])


def test_whitened_activations_have_unit_covariance_and_come_back():
    x = raw_batch().x_BD @ draws(D, D, seed=3)
    norm = normalise.estimate("whiten", [Batch(part, part) for part in (x[:40], x[40:])])
    x_n, undo = normalise.forward(norm, x)
    np.testing.assert_allclose(np.cov(x_n.T, bias=True), np.eye(D), atol=1e-4)
    np.testing.assert_allclose(x_n.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(undo(x_n), x, atol=1e-3)


def test_standardised_dimensions_have_unit_variance_and_come_back():
    x = 7 + raw_batch().x_BD @ draws(D, D, seed=3)
    norm = normalise.estimate("standardise", [Batch(part, part) for part in (x[:40], x[40:])])
    x_n, undo = normalise.forward(norm, x)
    np.testing.assert_allclose(x_n, (x - x.mean(0)) / x.std(0), atol=1e-4)
    np.testing.assert_allclose(undo(x_n), x, atol=1e-3)


@affine
def test_a_flat_direction_stays_finite(kind):
    x = raw_batch().x_BD
    x[:, 3] = 1.0
    x_n, undo = normalise.forward(normalise.estimate(kind, [Batch(x, x)]), x)
    assert np.isfinite(x_n).all()
    np.testing.assert_allclose(undo(x_n), x, atol=1e-2)
    same = x[:1].repeat(4, 0)
    with pytest.raises(ValueError, match="covariance is zero"):
        normalise.estimate(kind, [Batch(same, same)])


@pytest.mark.parametrize("scale", [1e-15, 1e-8, 1e-4, 1e4, 1e8, 1e15])
@pytest.mark.parametrize(
    "kind", ["mean_norm_sqrt_d", "unit_mean_sq", "token_unit", *normalise.AFFINE_KINDS]
)
def test_normalised_activations_are_the_same_at_any_scale(kind, scale):
    def normalised(x):
        halves = (Batch(half, half) for half in np.split(x, 2))
        x_n, undo = normalise.forward(normalise.estimate(kind, halves), x)
        np.testing.assert_allclose(undo(x_n), x, atol=1e-5 * np.abs(x).max())
        return x_n

    x = 3 + draws(B, D)
    # The sign of a principal component is free.
    found, wanted = (np.abs(normalised(rows)) for rows in (np.float32(scale) * x, x))
    np.testing.assert_allclose(found, wanted, atol=1e-4)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("kind", ["mean_norm_sqrt_d", "unit_mean_sq", *normalise.AFFINE_KINDS])
def test_rows_that_are_not_finite_are_counted_and_refused(kind, bad):
    x = draws(B, D)
    x[3, 0] = x[5] = bad
    with pytest.raises(ValueError, match=f"^2 of {B} rows"):
        normalise.estimate(kind, [Batch(x, x)])


@affine
@pytest.mark.parametrize("mean", [1e5, -1e6])
def test_a_large_mean_costs_no_digits(mean, kind):
    """Rows in units of 1/8, which float32 holds beside the mean."""
    x = np.round(8 * draws(B, D)) / 8
    far = np.float32(x + mean)
    norms = [normalise.estimate(kind, [Batch(p, p) for p in (y[:9], y[9:])]) for y in (x, far)]
    near, moved = (np.abs(norm.matrix_DD) for norm in norms)
    np.testing.assert_allclose(moved, near, rtol=1e-5, atol=1e-6)


@affine
@pytest.mark.parametrize("constant", [0.1, 1e-8, 1e8])
def test_equal_rows_have_no_affine_kind(constant, kind):
    x = np.full((B, D), constant, np.float32)
    with pytest.raises(ValueError, match="covariance is zero"):
        normalise.estimate(kind, [Batch(part, part) for part in (x[:7], x[7:])])
