"""What a forward pass holds constant: gradients by kind and layer, and the values of another run."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn.lm import decoder, frozen
from dictlearn.lm.spec import Spec
from tests.lm.toy import toy

TOKENS_BT = np.array([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])
SPECS = {
    "llama": Spec(2, 12, 4, 2, 6, 20, 40),
    "gemma": Spec(2, 12, 4, 2, 6, 20, 40, post_norms=True, qk_norm=True, attn_cap=5.0),
    "neox": Spec(2, 12, 2, 2, 6, 20, 40, norm="layer", gated=False, parallel=True, bias_mlp=True),
}


def passed(spec, params, tokens, shift=0.0, **options):
    edits = {"embed": lambda x, *_: x + shift}
    return decoder.forward(spec, params, tokens, edits, **options)


@pytest.mark.parametrize("name", SPECS)
def test_a_model_that_holds_its_own_values_is_itself_and_one_that_holds_all_is_affine(name):
    spec, params = toy(spec=SPECS[name])
    *_, held = jax.jit(functools.partial(decoder.constants, spec))(params, TOKENS_BT[:1])
    assert {"pattern.1", "mlp.0", "attn_norm.0", "mlp_norm.1", "norm"} <= set(held)
    plain = passed(spec, params, TOKENS_BT[:1])[0]
    run = jax.jit(lambda shift: passed(spec, params, TOKENS_BT[:1], shift, held=held)[0])
    np.testing.assert_allclose(run(0.0), plain, atol=1e-5)
    a, b = jax.random.normal(jax.random.key(1), (2, 1, 5, 12))
    np.testing.assert_allclose(run(a + b) - run(b), run(a) - run(0.0), atol=1e-4)
    moved = lambda shift: passed(spec, params, TOKENS_BT[:1], shift)[0]
    assert np.abs(moved(a + b) - moved(b) - moved(a) + moved(0.0)).max() > 1e-2


def test_values_of_one_sequence_are_held_for_several():
    spec, params = toy(spec=SPECS["llama"])
    *_, held = decoder.constants(spec, params, TOKENS_BT[:1])
    both, _ = decoder.forward(spec, params, TOKENS_BT, held=held)
    alone, _ = decoder.forward(spec, params, TOKENS_BT[1:], held=held)
    np.testing.assert_allclose(both[1:], alone, atol=1e-5)
    three = np.concatenate([TOKENS_BT, TOKENS_BT[:1]])
    pattern = decoder.constants(spec, params, TOKENS_BT)[2]["pattern.0"]
    with pytest.raises(ValueError, match=r"pattern.0.* 2 .* 3\."):
        decoder.forward(spec, params, three, held={"pattern.0": pattern})


def gradient(spec, params, freeze):
    def loss(shift):
        logits, _ = passed(spec, params, TOKENS_BT, shift, freeze=freeze)
        return (logits * jnp.cos(jnp.arange(spec.vocab))).sum()

    return jax.jit(jax.grad(loss))(jnp.zeros((2, 5, 12)))


@pytest.mark.parametrize("kind", ["attention", "mlps"])
def test_a_kind_is_frozen_in_one_layer_or_in_all(kind):
    spec, params = toy(spec=SPECS["llama"])
    whole = gradient(spec, params, (kind,))
    by_layer = gradient(spec, params, tuple(f"{kind}.{layer}" for layer in range(2)))
    np.testing.assert_array_equal(whole, by_layer)
    last, none = gradient(spec, params, (f"{kind}.1",)), gradient(spec, params, ())
    assert np.abs(last - whole).max() > 1e-4
    assert np.abs(last - none).max() > 1e-4


def test_a_frozen_model_has_the_slope_of_the_model_that_holds_its_values():
    spec, params = toy(spec=SPECS["gemma"])
    *_, held = decoder.constants(spec, params, TOKENS_BT)

    def loss(shift):
        logits, _ = passed(spec, params, TOKENS_BT, shift, held=held)
        return (logits * jnp.cos(jnp.arange(spec.vocab))).sum()

    wanted = jax.jit(jax.grad(loss))(jnp.zeros((2, 5, 12)))
    np.testing.assert_allclose(gradient(spec, params, frozen.KINDS), wanted, atol=1e-4)


def test_an_unknown_thing_to_freeze_lists_the_known():
    for wrong in ("mlp", "norms.2", "attention.x"):
        with pytest.raises(ValueError, match=rf"'{wrong}'.*attention.*mlps.*norms.1"):
            frozen.check(("norms", wrong), 2)
