"""The quantiles of columns by counting, against those by a sort."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn.ops.topk.quantile import column_quantile
from tests.helpers import mesh_of


def values(rows: int, levels: int):
    """Values of both signs, with few levels and so with ties, and a column of zeros of both signs."""
    x_BF = jax.random.randint(jax.random.key(0), (rows, 16), -levels, levels) / 7
    return jnp.asarray(x_BF.at[:, 0].set(0).at[::2, 0].set(-0.0), jnp.float32)


@pytest.mark.parametrize("levels", [2, 100_000])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 0.9971, 1.0])
@pytest.mark.parametrize("rows", [1, 33, 8192])
def test_it_is_the_quantile_by_a_sort(levels, share, rows):
    x_BF = values(rows, levels)
    wanted = np.quantile(np.asarray(x_BF, np.float64), share, axis=0)
    found = jax.jit(column_quantile)(x_BF, share)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6 * float(abs(x_BF).max()))


@pytest.mark.parametrize("sizes", [(1, 2, 4), (1, 8, 1)])
def test_each_column_has_its_own_share_over_any_sharding(sizes):
    x_BF, share_F = values(512, 1000), jnp.linspace(0.05, 0.95, 16)
    wanted = [np.quantile(np.asarray(x_BF)[:, f], share) for f, share in enumerate(share_F)]
    with jax.set_mesh(mesh_of(*sizes)):
        spread = jax.device_put(x_BF, jax.P("data", "model"))
        program = jax.jit(column_quantile).lower(spread, share_F).compile()
    found = program(spread, share_F)
    assert "all-gather" not in program.as_text()
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_members_of_a_vmap_have_their_own_quantiles():
    x, share = jax.random.normal(jax.random.key(1), (2, 64, 4)), jnp.array([0.25, 0.75])
    wanted = [np.quantile(x[0], 0.25, axis=0), np.quantile(x[1], 0.75, axis=0)]
    np.testing.assert_allclose(jax.vmap(column_quantile)(x, share), wanted, rtol=1e-5)


def test_precision_is_that_of_the_values():
    with jax.enable_x64(True):
        x_BF = jnp.asarray(np.random.default_rng(0).standard_normal((101, 3)))
        found = np.asarray(column_quantile(x_BF, 0.37))
    np.testing.assert_allclose(found, np.quantile(x_BF, 0.37, axis=0), rtol=1e-13)
    half = column_quantile(x_BF.astype(jnp.bfloat16), 0.37)
    assert half.dtype == jnp.float32
    np.testing.assert_allclose(half, found, rtol=0.02)
