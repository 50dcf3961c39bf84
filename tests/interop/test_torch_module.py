"""The module that PyTorch users get computes what we compute, and needs torch alone."""

import ast
import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn import dense, dictionaries, interop
from dictlearn.interop import torch_module
from tests.interop.test_conformance import D, trained

torch = pytest.importorskip("torch")

KINDS = [
    *((activation, {}) for activation in sorted(torch_module._ACTIVATIONS)),
    *(("matryoshka", {"activation": activation}) for activation in ("topk", "jumprelu")),
    *((activation, {"d_out": D // 2, "skip": True}) for activation in ("relu", "topk", "jumprelu")),
    *(("topk", {"norm_weighted": True}), ("relu", {"subtract_b_dec": False})),
]


def module_in(folder):
    spec = importlib.util.spec_from_file_location("model", folder / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.load(str(folder / "weights.safetensors"))


@pytest.mark.parametrize(("name", "fields"), KINDS)
def test_codes_and_reconstructions_are_ours(name, fields, tmp_path):
    rng = np.random.default_rng(0)
    one = trained(name, **fields)
    draw = lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), "f")
    one.variables["params"].update(jax.tree.map(draw, one.variables["params"]))
    interop.save(one, tmp_path / "it", "torch_module")
    theirs = module_in(tmp_path / "it")
    x_BD = rng.normal(size=(64, D)).astype("f") * 2
    f_BF = np.asarray(dense(one.encode(x_BD), one.module.n_latents))
    assert 0 < (f_BF != 0).mean() < 1
    with torch.no_grad():
        x = torch.from_numpy(x_BD)
        np.testing.assert_allclose(theirs.encode(x), f_BF, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(theirs(x), one.reconstruct(x_BD), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["gated", "group_max", "mp", "archetypal"])
def test_what_it_does_not_compute_is_refused(name, tmp_path):
    with pytest.raises(ValueError, match=name):
        interop.save(trained(name), tmp_path / "it", "torch_module")


def test_it_needs_torch_alone(tmp_path):
    interop.save(trained("topk"), tmp_path / "it", "torch_module")
    text = (tmp_path / "it/model.py").read_text()
    names = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import)]
    assert {alias.name for node in names for alias in node.names} == {"json", "struct", "torch"}
    assert not [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)]
    assert dictionaries.describe(interop.load(tmp_path / "it").module)["name"] == "topk"
