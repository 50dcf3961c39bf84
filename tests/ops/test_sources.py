"""Rows over several sources: their owners, and the cosines between their parts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn.ops import sources

ROWS = np.array([[3, 4, 0, 0], [0, 0, 0, 2], [3, 4, 6, 8], [1, 0, 0, 1], [0, 0, 0, 0]], np.float32)


def test_shares_are_relative_norms_and_sum_to_one_or_to_nothing():
    found = sources.shares(ROWS, 2)
    np.testing.assert_allclose(
        found, [[1, 0], [0, 1], [1 / 3, 2 / 3], [0.5, 0.5], [0, 0]], atol=1e-6
    )
    np.testing.assert_allclose(sources.shares(ROWS, 1)[:4], 1)


def test_owners_are_sources_that_have_nearly_all_of_a_row():
    assert sources.owners(sources.shares(ROWS, 2)).tolist() == [0, 1, -1, -1, -1]
    assert sources.owners(sources.shares(ROWS, 2), 0.6).tolist() == [0, 1, 1, -1, -1]
    with pytest.raises(ValueError, match=r"exclusive=0\.5"):
        sources.owners(sources.shares(ROWS, 2), 0.5)


def test_alike_is_the_cosine_of_two_parts_whatever_their_norms():
    np.testing.assert_allclose(sources.alike(ROWS, 2, 0, 1), [0, 0, 1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(sources.alike(-ROWS, 2, 1, 0)[2], 1)


def test_norms_have_no_gradient_where_a_part_is_zero():
    gradient = jax.grad(lambda W: sources.norms(W, 2).sum())(jnp.asarray(ROWS))
    np.testing.assert_allclose(gradient[0], [0.6, 0.8, 0, 0], atol=1e-6)
    assert bool(jnp.isfinite(gradient).all())
