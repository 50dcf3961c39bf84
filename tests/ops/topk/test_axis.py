"""The largest entries of each column, and of each row, by counting."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn.ops.topk.axis import column_top, row_top
from tests.helpers import mesh_of


@pytest.mark.parametrize("sizes", [(1, 1, 1), (1, 2, 4)])
@pytest.mark.parametrize("levels", [3, 10_000])
def test_each_column_keeps_its_own_number_with_ties_to_the_lowest_row(sizes, levels):
    x_BF = jax.random.randint(jax.random.key(0), (64, 16), 0, levels).astype(jnp.float32)
    n_F = jnp.arange(16) * 2
    with jax.set_mesh(mesh_of(*sizes)):
        kept = np.asarray(jax.jit(column_top)(x_BF, n_F))
    wanted = np.zeros((64, 16), bool)
    for f, n in enumerate(np.asarray(n_F)):
        wanted[np.argsort(-np.asarray(x_BF)[:, f], kind="stable")[:n], f] = True
    np.testing.assert_array_equal(kept, wanted & (np.asarray(x_BF) > 0))


@pytest.mark.parametrize("levels", [3, 10_000])
@pytest.mark.parametrize("rows", [64, 33])
def test_each_row_keeps_its_largest_with_ties_to_the_lowest_column(levels, rows):
    x_BF = jax.random.randint(jax.random.key(0), (rows, 16), 0, levels).astype(jnp.float32)
    first = np.argsort(-np.asarray(x_BF), axis=1, kind="stable")[:, :5]
    wanted = np.zeros((rows, 16), bool)
    np.put_along_axis(wanted, first, True, axis=1)
    wanted &= np.asarray(x_BF) > 0
    np.testing.assert_array_equal(jax.jit(row_top)(x_BF, 5), wanted)


@pytest.mark.parametrize("rows", [4096, 4099])
def test_blocks_of_rows_are_searched_as_all_rows_are(rows):
    x_BF = jnp.abs(jax.random.normal(jax.random.key(2), (rows, 16)))
    wanted = x_BF >= jnp.sort(x_BF, axis=1)[:, -5:-4]
    np.testing.assert_array_equal(jax.jit(row_top)(x_BF, 5), wanted)


def test_no_device_gathers_the_rows_of_the_others():
    with jax.set_mesh(mesh_of(1, 8, 1)):
        x_BF = jax.device_put(jnp.ones((4096, 16)), jax.P("data"))
        program = jax.jit(row_top).lower(x_BF, 5).compile().as_text()
    assert "all-reduce" in program
    assert "all-gather" not in program


def test_members_of_a_vmap_have_their_own_numbers():
    x = jax.random.uniform(jax.random.key(1), (2, 32, 4))
    n = jnp.array([[1, 2, 3, 4], [0, 32, 8, 5]])
    np.testing.assert_array_equal(jax.vmap(column_top)(x, n).sum(1), n)
