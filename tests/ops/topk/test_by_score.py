"""The entries with the largest scores."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn.ops.topk.by_score import top_by
from tests.helpers import mesh_of


@pytest.mark.parametrize("sizes", [(1, 1, 1), (1, 2, 4)])
def test_values_stand_at_the_largest_scores(sizes):
    pre_BF = jax.random.normal(jax.random.key(0), (8, 64))
    with jax.set_mesh(mesh_of(*sizes)):
        val_BK, idx_BK = jax.jit(top_by, static_argnums=2)(jnp.abs(pre_BF), pre_BF, 5)
    order = np.argsort(-np.abs(np.asarray(pre_BF)), axis=1)[:, :5]
    np.testing.assert_array_equal(idx_BK, order)
    np.testing.assert_array_equal(val_BK, np.take_along_axis(np.asarray(pre_BF), order, 1))
