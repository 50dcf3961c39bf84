"""The n largest of a batch, by counting."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn.ops.topk.batch import batch_top, nth_largest
from tests.helpers import mesh_of


@pytest.mark.parametrize("n", [1, 2, 17, 500])
def test_the_threshold_is_the_nth_largest_value(n):
    x = jax.nn.relu(jax.random.normal(jax.random.key(n), (20, 64)))
    assert nth_largest(x, n) == np.sort(np.asarray(x).ravel())[-n]


def test_the_threshold_has_the_type_of_the_batch_wherever_it_is_looked_for():
    x = jax.ShapeDtypeStruct((64, 256), jnp.bfloat16)
    for k_sparse in (None, 8):
        top = jax.eval_shape(lambda x, k_sparse=k_sparse: batch_top(x, 9, k_sparse), x)
        assert top.least.dtype == x.dtype
    assert jax.eval_shape(lambda x: nth_largest(x, 9), x).dtype == x.dtype


@pytest.mark.parametrize("sizes", [(1, 1, 1), (1, 2, 4)])
@pytest.mark.parametrize("levels", [3, 1000])
def test_exactly_n_are_kept_with_ties_to_the_lowest_flat_index(sizes, levels):
    x = jax.random.randint(jax.random.key(0), (16, 64), 0, levels).astype(jnp.float32)
    n = 100
    with jax.set_mesh(mesh_of(*sizes)):
        kept = np.asarray(jax.jit(batch_top, static_argnums=1)(x, n).on_BF)
    order = np.argsort(-np.asarray(x).ravel(), kind="stable")[:n]
    wanted = np.zeros(x.size, bool)
    wanted[order] = True
    np.testing.assert_array_equal(kept.ravel(), wanted)


@pytest.mark.parametrize("k_sparse", [1, 3, 8, 40])
def test_looking_at_the_largest_of_each_row_first_changes_nothing(k_sparse):
    x = jax.random.randint(jax.random.key(0), (16, 64), -9, 30).astype(jnp.float32)
    x = jax.nn.relu(x) * (
        jnp.arange(16)[:, None] % 3
    )  # rows of zeros, ties, rows with more than their share
    for n in (1, 40, 100, 2000):
        near = jax.jit(lambda x, n=n: batch_top(x, n, k_sparse).on_BF)(x)
        np.testing.assert_array_equal(near, batch_top(x, n).on_BF)


@pytest.mark.parametrize("k_sparse", [None, 3])
def test_the_mask_its_least_entry_and_the_entries_near_say_the_same(k_sparse):
    x = jax.random.randint(jax.random.key(0), (3, 64, 64), -30, 30).astype(jnp.float32)
    x *= (jnp.arange(64)[:, None] % 3 == 0) * jnp.array([1, 1, 0])[:, None, None]
    n = jnp.array([60, 2000, 9])  # ties among the last; fewer than that are positive; none is
    tops = jax.jit(jax.vmap(lambda x, n: batch_top(x, n, k_sparse)))(x, n)
    for m in range(3):
        top, values = jax.tree.map(lambda leaf, m=m: leaf[m], tops), np.asarray(x[m])
        kept = values[np.asarray(top.on_BF)]
        assert len(kept) == min(int(n[m]), (values > 0).sum())
        assert top.least == kept.min(initial=np.inf)
        if k_sparse:
            score, idx = top.near
            found = np.zeros_like(values)
            np.put_along_axis(found, np.asarray(idx), np.asarray(score), axis=1)
            few = np.asarray(top.on_BF).sum(1) < k_sparse
            np.testing.assert_array_equal(found[few], (values * np.asarray(top.on_BF))[few])
            assert (np.asarray(score)[~few] > 0).all()


def test_zeros_are_never_kept():
    x = jnp.zeros((4, 8)).at[1, 2].set(3.0)
    assert int(batch_top(x, 10).on_BF.sum()) == 1


def test_members_of_a_vmap_have_their_own_n():
    x = jax.random.uniform(jax.random.key(1), (3, 8, 16))
    kept = jax.vmap(batch_top)(x, jnp.array([1, 20, 128])).on_BF
    np.testing.assert_array_equal(kept.sum((1, 2)), [1, 20, 128])
