"""A model with few values a row in its weights, and what it says of itself."""

import jax
import numpy as np
import pytest

from dictlearn.lm import identity, load
from dictlearn.lm.rounding import rounded
from tests.lm import toy


def test_every_row_has_few_evenly_spaced_values_no_further_than_half_a_step_away():
    lm = toy.toy_lm()
    few = rounded(lm, 7)
    for before, after in zip(*map(jax.tree.leaves, (lm.params, few.params)), strict=True):
        before, after = np.atleast_2d(before), np.atleast_2d(after)
        if min(before.shape) == 1:
            np.testing.assert_array_equal(after, before)
            continue
        step = np.abs(before).max(1, keepdims=True) / 3
        np.testing.assert_allclose(after / step, np.round(after / step), atol=1e-4)
        assert (np.abs(after - before) <= step / 2 * (1 + 1e-5)).all()
        assert (after != before).any()
    again = rounded(few, 7)
    for once, twice in zip(*map(jax.tree.leaves, (few.params, again.params)), strict=True):
        np.testing.assert_allclose(twice, once, rtol=1e-6, atol=1e-7)


def test_a_rounded_model_is_another_model_and_is_known_before_it_is_loaded(tmp_path):
    path = toy.write_gguf(tmp_path / "toy.gguf", *toy.toy())
    whole, few = (load("toy", path, levels=levels) for levels in (None, 15))
    assert few.source == {**whole.source, "levels": "15"}
    assert identity("toy", path, levels=15) == few.source


@pytest.mark.parametrize("levels", [1, 4])
def test_levels_are_symmetric_about_zero(levels):
    with pytest.raises(ValueError, match=f"levels={levels}"):
        rounded(toy.toy_lm(), levels)
