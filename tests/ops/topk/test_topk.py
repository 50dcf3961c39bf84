"""Two-stage and sharded top-k are `lax.top_k`, ties included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from dictlearn.ops.topk.exact import top_k
from tests.helpers import mesh_of

SHAPES = [(4, 64, 3), (3, 1000, 7), (5, 256, 256), (2, 4096, 1), (4, 96, 50)]


def same(found, wanted):
    np.testing.assert_array_equal(found[0], wanted[0])
    np.testing.assert_array_equal(found[1], wanted[1])


@pytest.mark.parametrize(("b", "f", "k"), SHAPES)
def test_values_and_indices_are_those_of_lax_top_k(b, f, k):
    pre = jax.random.normal(jax.random.key(0), (b, f))
    same(top_k(pre, k), lax.top_k(pre, k))


@pytest.mark.parametrize(("b", "f", "k"), SHAPES)
def test_ties_fall_to_the_lowest_index(b, f, k):
    pre = jax.random.randint(jax.random.key(1), (b, f), -2, 3).astype(jnp.float32)
    same(top_k(pre, k), lax.top_k(pre, k))


def test_only_masked_latents_compete_and_the_rest_is_minus_infinity():
    pre = jax.random.normal(jax.random.key(2), (6, 512))
    mask = jax.random.bernoulli(jax.random.key(3), 0.01, (512,))
    val, idx = top_k(pre, 16, mask)
    wanted, _ = lax.top_k(jnp.where(mask, pre, -jnp.inf), 16)
    np.testing.assert_array_equal(val, wanted)
    assert int(mask.sum()) < 16
    assert bool(mask[idx][jnp.isfinite(val)].all())


@pytest.mark.parametrize("sizes", [(1, 2, 2), (1, 1, 8), (2, 2, 2)])
@pytest.mark.parametrize("k", [1, 5, 40])
def test_sharded_equals_whole_with_ties(sizes, k):
    pre = jax.random.randint(jax.random.key(4), (8, 256), 0, 9).astype(jnp.float32)
    with jax.set_mesh(mesh_of(*sizes)):
        same(jax.jit(top_k, static_argnums=1)(pre, k), lax.top_k(pre, k))


def test_more_than_there_are_is_an_error_that_names_both():
    with pytest.raises(ValueError, match=r"k=9\b.*\b8\b"):
        top_k(jnp.zeros((2, 8)), 9)
