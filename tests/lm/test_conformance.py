"""Conformance of every family. A small model of it computes what transformers computes, from the files that
transformers writes. With every switch of its configuration class the other way it does so too, or refuses.
"""

import jax
import numpy as np
import pytest

from dictlearn.lm import families, load

from . import hf

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

BASE = transformers.PretrainedConfig()
FAMILIES = pytest.mark.parametrize("family", families.names())
IDLE = ("use_cache",)
"""Switches that no output depends on."""
ACTIVATIONS = ("hidden_act", "hidden_activation", "activation_function")


def agrees(model, folder):
    """The output, logits where the family has any, and the residual stream after every block."""
    lm = load("small", hf.save(model, folder))
    output, taps = jax.jit(lm.forward)(lm.params, hf.TOKENS_BT)
    with torch.no_grad():
        expected = model(torch.from_numpy(hf.TOKENS_BT), output_hidden_states=True)
    *blocks, final = (state.numpy() for state in expected.hidden_states)
    logits = output.shape[-1] == lm.params["embed_VD"].shape[0]
    np.testing.assert_allclose(output, expected.logits if logits else final, atol=1e-4)
    names = ["embed", *(f"resid.{layer}" for layer in range(len(blocks) - 1)), "final"]
    for name, state in zip(names, (*blocks, final), strict=True):
        np.testing.assert_allclose(taps[name], state, atol=1e-4, err_msg=name)


def otherwise(family):
    """Key -> another value: of each switch of the configuration class itself, and of the activation."""
    usual, any_model = (one.to_dict() for one in (transformers.CONFIG_MAPPING[family](), BASE))
    own = {key: value for key, value in usual.items() if key not in (*any_model, *IDLE)}
    switches = {key: not value for key, value in own.items() if isinstance(value, bool)}
    acts = {key: "gelu" if own[key] == "silu" else "silu" for key in ACTIVATIONS if key in own}
    return switches | acts


@FAMILIES
def test_it_computes_what_transformers_computes(family, tmp_path):
    agrees(hf.small(family), tmp_path)


@FAMILIES
def test_every_switch_is_followed_or_refused_by_its_name(family, tmp_path):
    for key, value in otherwise(family).items():
        try:
            model = hf.small(family, **{key: value})
        except ValueError:
            continue  # transformers has no such model
        refusal = None
        try:
            agrees(model, tmp_path / key)
        except ValueError as error:
            refusal = str(error)
        assert refusal is None or key in refusal
