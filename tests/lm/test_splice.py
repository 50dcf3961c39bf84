"""Several taps of the running model replaced at once, side by side, and the three runs."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn.lm import edits, splice
from tests.lm.toy import SPEC, toy_lm

TAPS = ("resid.0", "mlp_out.1")


@pytest.fixture(scope="module")
def given():
    """A model, tokens of which the first is masked, and what stands at TAPS."""
    lm = toy_lm(0, replace(SPEC, n_layers=2))
    tokens = jax.random.randint(jax.random.key(0), (2, 8), 0, lm.spec.vocab)
    mask = jnp.ones((2, 8), bool).at[:, 0].set(False)
    y = splice.side_by_side(jax.jit(lm.forward)(lm.params, tokens)[1], TAPS)
    return lm, tokens, mask, y


def test_several_taps_are_replaced_each_by_its_part(given):
    lm, tokens, mask, y = given
    assert y.shape == (2, 8, 24)
    run = jax.jit(functools.partial(splice.run, lm.forward, TAPS))
    original = jax.jit(lm.forward)(lm.params, tokens)[0]
    np.testing.assert_allclose(run(lm.params, tokens, mask, y, y)[0], original, atol=1e-5)
    for part in range(2):
        halved = y * (jnp.arange(24) // 12 == part)
        put = {
            tap: edits.replace(one)
            for tap, one in zip(TAPS, jnp.split(halved, 2, axis=-1), strict=True)
        }
        wanted = jax.jit(functools.partial(lm.forward, edits=put, mask_BT=mask))(lm.params, tokens)
        found = run(lm.params, tokens, mask, y, halved)
        np.testing.assert_allclose(found[0], wanted[0], atol=1e-5)
        assert np.abs(found[0] - original).max() > 1e-3


def test_the_three_runs_are_the_model_the_change_and_zero(given):
    lm, tokens, mask, _ = given
    change = {"resid.0": edits.zero()}
    runs = jax.jit(lambda params: splice.runs(lm.forward, params, tokens, mask, change, change))
    found = runs(lm.params)
    assert set(found) == set(splice.RUNS)
    np.testing.assert_array_equal(found["spliced"], found["ablated"])
    assert np.abs(found["original"] - found["ablated"]).max() > 1e-3


def test_nothing_that_leads_to_the_tap_alone_is_computed(given):
    lm, tokens, mask, y = given
    run = functools.partial(splice.run, lm.forward, ("resid.0",))
    spoilt = {**lm.params, "block_0": jax.tree.map(lambda a: a * jnp.nan, lm.params["block_0"])}
    found = jax.jit(run)(spoilt, tokens, mask, y[..., :12], y[..., :12])[0]
    assert np.isfinite(found).all()
