"""Sums by groups equal a product a group, and so do their gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn.ops.sparse.nested import decode_parts
from tests.helpers import mesh_of

WIDTHS = (4, 6, 20, 32)


def plain(val, idx, W):
    f = jnp.zeros((len(val), len(W))).at[jnp.arange(len(val))[:, None], idx].add(val)
    bounds = zip((0, *WIDTHS), WIDTHS, strict=False)
    return jnp.stack([f[:, low:high] @ W[low:high] for low, high in bounds])


@pytest.mark.parametrize("sizes", [(1, 1, 1), (1, 2, 4)])
@pytest.mark.parametrize("length", [None, 3])
def test_values_and_gradients_equal_those_of_the_dense_form(sizes, length):
    keys = jax.random.split(jax.random.key(0), 4)
    val = jax.random.normal(keys[0], (8, 5)) * (jnp.arange(5) < (length or 5))
    idx = jax.random.randint(keys[1], (8, 5), 0, 32)
    W, weight = jax.random.normal(keys[2], (32, 6)), jax.random.normal(keys[3], (4, 8, 6))

    def both(form):
        loss = lambda val, W: jnp.sum(weight * jnp.sin(form(val, idx, W)))
        return jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(val, W)

    wanted = both(plain)
    with jax.set_mesh(mesh_of(*sizes)):
        found = both(lambda val, idx, W: decode_parts(val, idx, W, WIDTHS, length))
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-5)
    np.testing.assert_allclose(found[1][1], wanted[1][1], atol=1e-5)
    used = length or 5
    np.testing.assert_allclose(found[1][0][:, :used], wanted[1][0][:, :used], atol=1e-5)
    assert not np.any(found[1][0][:, used:])


def test_each_group_of_tokens_has_a_length_of_its_own():
    keys = jax.random.split(jax.random.key(1), 3)
    length = jnp.array([5, 2])
    val = jax.random.normal(keys[0], (8, 5)) * (jnp.arange(5) < jnp.repeat(length, 4)[:, None])
    idx, W = jax.random.randint(keys[1], (8, 5), 0, 32), jax.random.normal(keys[2], (32, 6))
    loss = lambda form: lambda W: jnp.sum(jnp.sin(form(W)))
    found = jax.value_and_grad(loss(lambda W: decode_parts(val, idx, W, WIDTHS, length)))(W)
    wanted = jax.value_and_grad(loss(lambda W: plain(val, idx, W)))(W)
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-5)
    np.testing.assert_allclose(found[1], wanted[1], atol=1e-5)
