"""Penalties are their formulae, with slopes that stay finite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn.ops import penalties

F_BF = jax.nn.relu(jax.random.normal(jax.random.key(0), (16, 8)))


def test_values_are_the_formulae():
    f = np.asarray(F_BF, np.float64)
    np.testing.assert_allclose(penalties.l1(F_BF), f.sum(1), rtol=1e-6)
    np.testing.assert_allclose(penalties.tanh(F_BF, 4.0), np.tanh(4 * f).sum(1), rtol=1e-6)
    for p in (1.0, 0.5, 0.1):
        np.testing.assert_allclose(penalties.power(F_BF, p), (f**p).sum(1), rtol=1e-4)


@pytest.mark.parametrize("p", [1.0, 0.5, 0.1])
def test_the_slope_of_a_power_is_p_f_to_the_p_less_one_and_zero_at_zero(p):
    f = F_BF.at[0, 0].set(0.0).at[0, 1].set(1e-12)
    slope = np.asarray(jax.grad(lambda f: penalties.power(f, p).sum())(f))
    on = np.asarray(f) > 1e-3
    np.testing.assert_allclose(slope[on], p * np.asarray(f)[on] ** (p - 1), rtol=1e-4)
    assert slope[0, 0] == 0
    assert slope[0, 1] <= p * 1e-8 ** (p - 1) * 1.001


def test_sums_are_wide_where_latents_are_narrow():
    f = jnp.full((1, 4096), 1.0, jnp.bfloat16).at[0, 0].set(0.5)
    assert penalties.l1(f).dtype == jnp.float32
    assert penalties.l1(f)[0] == 4095.5


def test_a_zero_row_has_norm_zero_and_no_gradient():
    W = jnp.array([[3.0, 4.0], [0.0, 0.0]])
    np.testing.assert_allclose(penalties.row_norms(W), [5.0, 0.0])
    grad = jax.grad(lambda W: penalties.row_norms(W).sum())(W)
    np.testing.assert_allclose(grad, [[0.6, 0.8], [0.0, 0.0]], rtol=1e-6)
