"""The gradient decides which latents a gradient SAE keeps, and nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn import dictionaries
from dictlearn.ops.firing import dense

D, F = 8, 24


def module(beta=1.0, **fields):
    return dictionaries.make("gsae", **{"d_in": D, "n_latents": F, "k": 3, "beta": beta} | fields)


@pytest.fixture(scope="module")
def given():
    """Variables, activations and gradients."""
    k_init, k_x, k_g = jax.random.split(jax.random.key(0), 3)
    x_BD, g_BD = (jax.random.normal(key, (16, D)) for key in (k_x, k_g))
    return module().init(k_init, x_BD, jnp.zeros(F, bool)), x_BD, g_BD


def codes(variables, x_BD, *g_BD, **fields):
    return dense(module(**fields).apply(variables, x_BD, *g_BD, method="encode"), F)


def test_without_a_gradient_or_a_weight_for_it_it_is_topk(given):
    variables, x_BD, g_BD = given
    topk = dictionaries.make("topk", d_in=D, n_latents=F, k=3)
    wanted = dense(topk.apply(variables, x_BD, method="encode"), F)
    np.testing.assert_array_equal(codes(variables, x_BD), wanted)
    np.testing.assert_array_equal(codes(variables, x_BD, g_BD, beta=0.0), wanted)
    assert np.any(codes(variables, x_BD, g_BD, beta=1.0) != wanted)


def test_scaling_the_gradient_is_scaling_its_weight(given):
    variables, x_BD, g_BD = given
    found = codes(variables, x_BD, 4 * g_BD, beta=0.25)
    np.testing.assert_allclose(found, codes(variables, x_BD, g_BD, beta=1.0), atol=1e-6)


@pytest.mark.parametrize(("share", "kept"), [(0.99, 0), (1.01, 1)])
def test_a_small_latent_that_the_head_reads_is_kept_above_the_analytic_weight(share, kept):
    """x = c_1 d_1 + c_2 d_2 and a loss <x, w>: c_2 (1 + beta |a_2|) exceeds c_1 (1 + beta |a_1|) from
    beta = (c_1 / c_2 - 1) / (|a_2| - |a_1| c_1 / c_2) on, with a_i = <w, d_i>."""
    (c_1, c_2), (a_1, a_2) = (3.0, 1.0), (0.2, -2.0)
    beta = share * (c_1 / c_2 - 1) / (abs(a_2) - abs(a_1) * c_1 / c_2)
    params = {"W_dec_FD": jnp.eye(2), "W_enc_FD": jnp.eye(2)}
    variables = {"params": params | {"b_enc_F": jnp.zeros(2), "b_dec_D": jnp.zeros(2)}}
    own = module(beta, d_in=2, n_latents=2, k=1)
    x_BD, g_BD = jnp.array([[c_1, c_2]]), jnp.array([[a_1, a_2]])
    found = dense(own.apply(variables, x_BD, g_BD, method="encode"), 2)[0]
    assert np.flatnonzero(found).tolist() == [kept]
    assert found[kept] == (c_1, c_2)[kept], "the value kept is the latent's own"
    plain = dense(own.apply(variables, x_BD, method="encode"), 2)[0]
    assert np.flatnonzero(plain).tolist() == [0]


def test_no_gradient_flows_through_the_choice(given):
    variables, x_BD, g_BD = given

    def loss(variables, g_BD):
        out = module().apply(variables, x_BD, jnp.zeros(F, bool), g_BD)
        return ((out.y_BD - x_BD) ** 2).sum()

    of_variables, of_g = jax.jit(jax.grad(loss, argnums=(0, 1)))(variables, g_BD)
    assert not np.any(of_g)
    assert np.abs(of_variables["params"]["W_dec_FD"]).max() > 0
