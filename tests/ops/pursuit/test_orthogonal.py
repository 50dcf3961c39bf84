"""Orthogonal pursuit is least squares on what greed finds, and its non-negative form is NNLS, step by step."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize

from dictlearn.ops.pursuit.nonnegative import least_squares
from dictlearn.ops.pursuit.orthogonal import orthogonal

B, D, F = 24, 16, 128


def data():
    """Tokens, and coherent atoms (cosines up to 0.9) of lengths 0.3 to 3."""
    rng = np.random.default_rng(0)
    W = rng.normal(size=(F, D)) + 3 * rng.normal(size=(8, D))[np.arange(F) % 8]
    W *= np.linspace(0.3, 3, F)[:, None] / np.linalg.norm(W, axis=1, keepdims=True)
    return rng.normal(size=(B, D)), W


def written(x, W, k, fit, signed):
    """The values and atoms of one token after every step, as it is written down."""
    support, r, steps = [], x, []
    for _ in range(k):
        score = W @ r / np.linalg.norm(W, axis=1)
        score = score if signed else np.abs(score)
        score[support] = -np.inf
        if signed and score.max() <= 0:
            break
        support.append(int(np.argmax(score)))
        val = fit(W[support].T, x)
        r = x - val @ W[support]
        steps.append((val, list(support)))
    return steps


def test_values_and_atoms_are_those_of_the_pursuit_as_written():
    (x, W), K = data(), 5
    lstsq = lambda A, b: np.linalg.lstsq(A, b, rcond=None)[0]
    wanted = [written(one, W, K, lstsq, signed=False)[-1] for one in x]
    for dtype, near in ((np.float64, 1e-9), (np.float32, 1e-5)):
        with jax.enable_x64(dtype is np.float64):
            val, idx, _ = jax.jit(lambda x, W: orthogonal(x, W, K))(*map(dtype, (x, W)))
        np.testing.assert_array_equal(idx, [support for _, support in wanted])
        np.testing.assert_allclose(val, [val for val, _ in wanted], rtol=near, atol=near)


def test_nonnegative_values_are_those_of_nnls_after_every_step():
    (x, W), K = data(), 8
    nnls = lambda A, b: scipy.optimize.nnls(A, b)[0]
    wanted = [written(one, W, K, nnls, signed=True) for one in x]
    zeros = 0
    with jax.enable_x64(True):
        upto = jax.jit(
            lambda k: orthogonal(jnp.asarray(x), jnp.asarray(W), K, k=k, nonnegative=True)
        )
        for t in range(1, K + 1):
            val, idx, _ = (np.asarray(a) for a in upto(t))
            for b, steps in enumerate(wanted):
                right, support = steps[min(t, len(steps)) - 1]
                n = len(support)
                np.testing.assert_array_equal(idx[b, :n], support)
                np.testing.assert_allclose(val[b, :n], right, rtol=1e-8, atol=1e-10)
                zeros += int((right == 0).sum())
    assert zeros > 10, "no step took a value to zero, so nothing was tested"


def test_small_systems_are_solved_from_any_guess_and_the_wrong_sign_is_seen():
    rng = np.random.default_rng(1)
    A, b = rng.normal(size=(40, 12, 8)), rng.normal(size=(40, 12))
    wanted = np.asarray([scipy.optimize.nnls(*each)[0] for each in zip(A, b, strict=True)])
    with jax.enable_x64(True):
        system = jnp.einsum("bdk,bdl->bkl", A, A), jnp.einsum("bdk,bd->bk", A, b)
        solve = jax.jit(least_squares)
        for guess in (np.zeros((40, 8), bool), np.ones((40, 8), bool), rng.random((40, 8)) < 0.5):
            val, active = solve(*system, guess)
            np.testing.assert_allclose(val, wanted, atol=1e-9)
            np.testing.assert_array_equal(active, wanted > 0)
    clipped = np.maximum(
        [np.linalg.lstsq(*each, rcond=None)[0] for each in zip(A, b, strict=True)], 0
    )
    assert np.abs(clipped - wanted).max() > 0.1
