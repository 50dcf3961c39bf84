"""Gradients of a language model's loss as taps: right, and carried by streams in units of their size."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn import streams
from dictlearn.harvest import harvest
from dictlearn.lm import gradients
from tests.streams.language import SIZES, load, write_lm, write_text

TAP = "resid.1"
TAPS = (TAP, f"grad.{TAP}")


@pytest.fixture(scope="module")
def lm(tmp_path_factory):
    return load(write_lm(tmp_path_factory.mktemp("gradients")))


def test_the_gradient_is_the_slope_of_the_loss_along_a_direction(lm):
    tokens = jax.random.randint(jax.random.key(0), (2, 6), 0, 259)
    along = jax.random.normal(jax.random.key(1), (12,))

    @jax.jit
    def loss(size):
        shift = lambda x, *_: x.at[1, 3].add(size * along)
        logits, _ = lm.forward(lm.params, tokens, edits={TAP: shift})
        logp = jax.nn.log_softmax(logits[:, :-1])
        return -jnp.take_along_axis(logp, tokens[:, 1:, None], axis=-1).sum()

    found = jax.jit(lambda tokens: gradients.read(lm.forward, lm.params, tokens, TAPS))(tokens)
    slope = (loss(1e-2) - loss(-1e-2)) / 2e-2
    np.testing.assert_allclose(found[TAPS[1]][1, 3] @ along, slope, rtol=2e-2)


def test_names_are_expanded_with_their_prefix(lm):
    assert gradients.expand(lm.spec, "grad.resid.{0,2}") == ["grad.resid.0", "grad.resid.2"]
    with pytest.raises(ValueError, match=r"'resid\.9'"):
        gradients.expand(lm.spec, ("embed", "grad.resid.9"))


def test_streams_carry_gradients_of_unit_root_mean_square(lm, tmp_path):
    text = write_text(tmp_path / "text.txt")
    recipe = {"text": text, "dtype": "float32", **SIZES}
    harvest(lm, tmp_path / "store", TAPS, **recipe)
    pair = {"tap": TAP, "batch_size": 200, "seed": 0, "gradients": True, "keys": True}
    stored = streams.make("store", path=tmp_path / "store", block_rows=1, **pair)
    live = streams.make("from_lm", lm=lm, recipe={"taps": TAPS, **recipe}, pool_rows=9999, **pair)
    assert live.norm.scale_gradient == pytest.approx(stored.norm.scale_gradient, rel=1e-3)
    rows = {}
    for name, stream in (("stored", stored), ("live", live)):
        batches = [stream.batch(t) for t in range(stream.n_rows // 200)]
        g_BD = np.concatenate([batch.g_BD for batch in batches])
        assert np.sqrt(np.mean(g_BD**2)) == pytest.approx(1.0, rel=0.1)
        key = [
            zip(batch.sequence_B.tolist(), batch.position_B.tolist(), strict=True)
            for batch in batches
        ]
        rows[name] = dict(zip(itertools.chain(*key), g_BD, strict=True))
    both = rows["stored"].keys() & rows["live"].keys()
    assert len(both) > 0.8 * len(rows["stored"])
    for key in both:
        np.testing.assert_allclose(rows["stored"][key], rows["live"][key], rtol=1e-2, atol=1e-3)
    plain = {"taps": ("resid.0",), **recipe}
    with pytest.raises(ValueError, match=r"'grad\.resid\.0'"):
        streams.make("from_lm", lm=lm, recipe=plain, **pair | {"tap": "resid.0"})
