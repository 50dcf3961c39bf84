"""The jump and the step have the gradients written, and these are the expected loss's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import norm

from dictlearn.ops.jumprelu import KERNELS, jump, l0, step

B, F = 64, 8
every = pytest.mark.parametrize("kernel", list(KERNELS))


def setting():
    keys = jax.random.split(jax.random.key(0), 3)
    z, g = jax.random.normal(keys[0], (B, F)), jax.random.normal(keys[1], (B, F))
    return z, jax.random.uniform(keys[2], (F,), minval=0.2, maxval=0.8), 0.5, g


def naive_kernel(kernel, u):
    """K, one number at a time."""
    if kernel == "rectangle":
        return 1.0 if abs(u) < 0.5 else 0.0
    if kernel == "triangle":
        return max(0.0, 1 - abs(u))
    return float(np.exp(-u * u / 2) / np.sqrt(2 * np.pi))


def naive(kernel, window, z, threshold, eps, g):
    """(jump's z, jump's theta, step's theta) cotangents, entry by entry."""
    dz, djump, dstep = np.zeros((B, F)), np.zeros(F), np.zeros(F)
    for b in range(B):
        for f in range(F):
            density = naive_kernel(kernel, (z[b, f] - threshold[f]) / eps) / eps
            dz[b, f] = g[b, f] * (z[b, f] > threshold[f])
            dz[b, f] += g[b, f] * threshold[f] * density if window else 0
            djump[f] -= g[b, f] * threshold[f] * density
            dstep[f] -= g[b, f] * density
    return dz, djump, dstep


@every
@pytest.mark.parametrize("window", [False, True])
def test_the_gradients_are_the_rule_as_written(kernel, window):
    z, threshold, eps, g = setting()
    y, back = jax.vjp(lambda z, t: jump(z, t, eps, kernel, window), z, threshold)
    hard, back_step = jax.vjp(lambda z, t: step(z, t, eps, kernel), z, threshold)
    wanted = naive(kernel, window, *map(np.asarray, (z, threshold)), eps, np.asarray(g))
    np.testing.assert_allclose(y, np.where(z > threshold, z, 0))
    np.testing.assert_allclose(hard, z > threshold)
    for found, rule in zip((*back(g), back_step(g)[1]), wanted, strict=True):
        np.testing.assert_allclose(found, rule, rtol=1e-5, atol=1e-5)
    assert not np.asarray(back_step(g)[0]).any(), "the step moves thresholds only"


@every
@pytest.mark.parametrize("n_tokens", [B, 1024])
def test_l0_is_the_sum_of_the_step(kernel, n_tokens):
    keys = jax.random.split(jax.random.key(3), 2)
    z, (_, threshold, eps, _) = jax.random.normal(keys[0], (n_tokens, F)), setting()
    g = jax.random.normal(keys[1], (n_tokens,))
    found, back = jax.vjp(lambda z, t: l0(z, t, eps, kernel), z, threshold)
    wanted, back_step = jax.vjp(lambda z, t: step(z, t, eps, kernel).sum(1), z, threshold)
    np.testing.assert_array_equal(found, wanted)
    for one, other in zip(back(g), back_step(g), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_below_the_threshold_the_jump_has_no_gradient():
    z, threshold, eps, g = setting()
    grad = jax.vjp(lambda z: jump(z, threshold, eps), z)[1](g)[0]
    off = np.asarray(z <= threshold)
    assert off.any()
    assert not np.asarray(grad)[off].any()
    np.testing.assert_array_equal(np.asarray(grad)[~off], np.asarray(g)[~off])


@every
def test_the_steps_gradient_is_the_slope_of_the_expected_l0(kernel):
    z = jax.random.normal(jax.random.key(1), (1_000_000, 1))
    threshold, h = jnp.array([0.7]), 1e-3
    found = jax.grad(lambda t: step(z, t, 0.05, kernel).mean())(threshold)[0]
    tail = lambda t: 1 - norm.cdf(jnp.float32(t))
    slope = (tail(0.7 + h) - tail(0.7 - h)) / (2 * h)
    np.testing.assert_allclose(found, slope, rtol=0.02)


@every
def test_a_threshold_settles_where_the_gain_from_firing_is_its_price(kernel):
    z = 1 + jax.random.normal(jax.random.key(2), (200_000, 1))
    price = 0.25  # one latent and a unit atom: the gain is theta^2

    def loss(t):
        error = (z - jump(z, t, 0.02, kernel)) ** 2
        return (error + price * step(z, t, 0.02, kernel)).mean()

    slope = jax.jit(jax.grad(loss))
    for start in (0.2, 0.9):
        t = jnp.array([start])
        for _ in range(60):
            t = t - 2 * slope(t)
        np.testing.assert_allclose(t, price**0.5, rtol=0.05)
