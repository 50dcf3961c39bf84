"""Gemma Scope 2's cross-layer transcoders, made from their documented layout, against their mathematics."""

import dataclasses
import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from dictlearn import dense, interop
from dictlearn.interop import gemma_scope_clt

D, F, L = 4, 6, 3
RNG = np.random.default_rng(0)
XS = RNG.normal(size=(32, L, D)).astype("f")


LAYOUTS = ("params_layer_{}.safetensors", "layer_{}_width_6_l0_big/params.safetensors")


def made(path, layout=LAYOUTS[0], skip=False):
    """Three layers, with numbers also in the slots of targets before a layer, which are not used."""
    shapes = {"w_enc": (D, F), "w_dec": (F, L, D), "b_enc": (F,), "b_dec": (D,), "threshold": (F,)}
    shapes |= {"affine_skip_connection": (D, D)} if skip else {}
    for layer in range(L):
        one = path / layout.format(layer)
        one.parent.mkdir(parents=True, exist_ok=True)
        arrays = {key: RNG.normal(size=shape).astype("f") for key, shape in shapes.items()}
        arrays["threshold"] = np.abs(arrays["threshold"])
        save_file(arrays, one)
        hooks = {"hf_hook_point_in": f"in.{layer}", "hf_hook_point_out": f"out.{layer}"}
        config = json.dumps({"model_name": "gemma", **hooks})
        (one.parent / "config.json").write_text(config)
    return path


def stated(w):
    z = np.stack([XS[:, i] @ one["w_enc"] + one["b_enc"] for i, one in enumerate(w)], 1)
    codes = z * (z > np.stack([one["threshold"] for one in w]))
    y = np.stack([np.tile(one["b_dec"], (len(XS), 1)) for one in w], 1)
    for source, one in enumerate(w):
        y[:, source] += XS[:, source] @ one.get("affine_skip_connection", np.zeros((D, D)))
        for target in range(source, L):
            y[:, target] += codes[:, source] @ one["w_dec"][:, target]
    return codes.transpose(0, 2, 1).reshape(len(XS), -1), y.reshape(len(XS), -1)


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_it_computes_what_is_documented_and_is_written_back(layout, skip, tmp_path):
    folder = made(tmp_path / "clt", layout, skip)
    w = [load_file(folder / layout.format(layer)) for layer in range(L)]
    codes, y = stated(w)
    interop.save(interop.load(folder), tmp_path / "ours", "gemma_scope_clt")
    for found in (interop.load(folder), interop.load(tmp_path / "ours")):
        x = XS.reshape(len(XS), -1)
        np.testing.assert_allclose(dense(found.encode(x), L * F), codes, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(found.reconstruct(x), y, rtol=1e-4, atol=1e-5)
        targets = [site.target for site in found.sites]
        assert targets == [("out.0", "out.1", "out.2")] * (layout == LAYOUTS[1])
    for layer in range(L):
        again = load_file(tmp_path / "ours" / LAYOUTS[0].format(layer))
        assert again.keys() == w[layer].keys()
        assert not again.pop("w_dec")[:, :layer].any()
        for key, array in again.items():
            np.testing.assert_allclose(array, w[layer][key], rtol=1e-6)


def test_a_skip_between_layers_is_not_written(tmp_path):
    found = interop.load(made(tmp_path / "clt", skip=True))
    params = found.variables["params"]
    across = params["W_skip_DD"].at[0, D].set(1.0)
    found = dataclasses.replace(found, variables={"params": {**params, "W_skip_DD": across}})
    with pytest.raises(ValueError, match="W_skip_DD of clt reads other layers"):
        interop.save(found, tmp_path / "ours", "gemma_scope_clt")


def test_a_skip_that_would_be_too_large_is_refused(tmp_path, monkeypatch):
    folder = made(tmp_path / "clt", skip=True)
    monkeypatch.setattr(gemma_scope_clt, "MOST_WIDTH", L * D - 1)
    with pytest.raises(ValueError, match="12 squared here, and at most 11 squared"):
        interop.load(folder)


def test_a_layer_that_is_missing_or_there_twice_is_refused(tmp_path):
    folder = made(tmp_path / "clt", LAYOUTS[1])
    (folder / "layer_2_width_6_l0_big").rename(folder / "layer_1_width_12")
    with pytest.raises(ValueError, match="layer_1_width_12"):
        interop.load(folder)
    (folder / "layer_1_width_12").rename(folder / "other")
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        interop.load(folder)
