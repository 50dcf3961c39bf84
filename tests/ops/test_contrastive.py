"""The contrastive loss is the naive formula, and does not overflow where that does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn.ops.contrastive import contrastive

B, F, T = 12, 20, 0.2


def codes():
    return jax.nn.relu(jax.random.normal(jax.random.key(0), (B, F)))


def naive(z, t, normalise):
    if normalise:
        z = z / jnp.linalg.norm(z, axis=1, keepdims=True)
    alike = jnp.exp(z @ z.T / t)
    return -jnp.log(jnp.diag(alike) / alike.sum(1))


@pytest.mark.parametrize("normalise", [True, False])
def test_loss_and_gradient_equal_the_naive_formula(normalise):
    with jax.enable_x64(True):
        z = jnp.asarray(np.asarray(codes(), np.float64))
        both = [
            jax.value_and_grad(lambda z, f=f: f(z, T, normalise).sum())(z)
            for f in (contrastive, naive)
        ]
        for found, wanted in zip(*both, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-12)


def test_orthogonal_codes_have_the_closed_form():
    length = np.linspace(0.1, 3, B)
    found = contrastive(jnp.diag(length), 1.0, False)
    np.testing.assert_allclose(found, np.log1p((B - 1) * np.exp(-(length**2))), atol=1e-6)


def test_large_and_zero_codes_are_finite_with_finite_gradients():
    z = (100 * codes()).at[0].set(0)
    for normalise in (True, False):
        value, slope = jax.value_and_grad(lambda z, n=normalise: contrastive(z, T, n).sum())(z)
        assert bool(jnp.isfinite(value))
        assert bool(jnp.isfinite(slope).all())
