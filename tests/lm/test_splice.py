"""Several taps of the running model replaced at once, side by side."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from dictlearn.evaluate import Splice, _at
from tests.lm.toy import SPEC, toy_lm

TAPS = ("resid.0", "mlp_out.1")


def test_several_taps_are_replaced_each_by_its_part():
    lm = toy_lm(0, replace(SPEC, n_layers=2))
    tokens = jax.random.randint(jax.random.key(0), (2, 8), 0, lm.spec.vocab)
    mask = jnp.ones((2, 8), bool).at[:, 0].set(False)
    (y,) = _at(jax.jit(lm.forward)(lm.params, tokens)[1], (TAPS,))
    assert y.shape == (2, 8, 24)
    splice = Splice(lm, TAPS)
    splice.begin(tokens, mask, y)
    kl = lambda yhat: float(splice(yhat)["spliced"]["kl"])
    assert abs(kl(y)) < 1e-5

    @jax.jit
    def edited(halved):
        parts = zip(TAPS, jnp.split(halved, 2, axis=-1), strict=True)
        edits = {
            tap: lambda x, m, part=part: jnp.where(m[..., None], part, x) for tap, part in parts
        }
        return lm.forward(lm.params, tokens, edits=edits, mask_BT=mask)[0]

    for part in range(2):
        halved = y * (jnp.arange(24) // 12 == part)
        np.testing.assert_allclose(
            splice._run(lm.params, tokens, mask, y, halved), edited(halved), atol=1e-5
        )
        assert kl(halved) > 1e-3
