"""Gemma Scope 2's cross-layer transcoders, made from their documented layout, against their mathematics."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from dictlearn import dense, interop

D, F, L = 4, 6, 3
RNG = np.random.default_rng(0)
XS = RNG.normal(size=(32, L, D)).astype("f")


@pytest.fixture
def folder(tmp_path):
    """Three layers, with numbers also in the slots of targets before a layer, which are not used."""
    shapes = {"w_enc": (D, F), "w_dec": (F, L, D), "b_enc": (F,), "b_dec": (D,), "threshold": (F,)}
    for layer in range(L):
        one = tmp_path / "clt" / f"layer_{layer}_width_6_l0_big"
        one.mkdir(parents=True)
        arrays = {key: RNG.normal(size=shape).astype("f") for key, shape in shapes.items()}
        arrays["threshold"] = np.abs(arrays["threshold"])
        save_file(arrays, one / "params.safetensors")
        hooks = {"hf_hook_point_in": f"in.{layer}", "hf_hook_point_out": f"out.{layer}"}
        (one / "config.json").write_text(json.dumps({"model_name": "gemma", **hooks}))
    return tmp_path / "clt"


def test_it_computes_what_is_documented_and_is_written_back(folder, tmp_path):
    w = [load_file(path) for path in sorted(folder.rglob("*.safetensors"))]
    z = np.stack([XS[:, i] @ one["w_enc"] + one["b_enc"] for i, one in enumerate(w)], 1)
    codes = z * (z > np.stack([one["threshold"] for one in w]))
    y = np.stack([np.tile(one["b_dec"], (len(XS), 1)) for one in w], 1)
    for source in range(L):
        for target in range(source, L):
            y[:, target] += codes[:, source] @ w[source]["w_dec"][:, target]
    found, x = interop.load(folder), XS.reshape(len(XS), -1)
    woven = codes.transpose(0, 2, 1).reshape(len(XS), -1)
    np.testing.assert_allclose(dense(found.encode(x), L * F), woven, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.reconstruct(x), y.reshape(len(XS), -1), rtol=1e-4, atol=1e-5)
    assert found.sites[0].target == ("out.0", "out.1", "out.2")
    interop.save(found, tmp_path / "ours", "gemma_scope_clt")
    for layer in range(L):
        again = load_file(tmp_path / "ours" / f"layer_{layer}" / "params.safetensors")
        assert again.keys() == w[layer].keys()
        assert not again["w_dec"][:, :layer].any()
        np.testing.assert_allclose(again["w_dec"][:, layer:], w[layer]["w_dec"][:, layer:])


def test_a_layer_that_is_missing_or_there_twice_is_refused(folder):
    (folder / "layer_2_width_6_l0_big").rename(folder / "layer_1_width_12")
    with pytest.raises(ValueError, match="layer_1_width_12"):
        interop.load(folder)
    (folder / "layer_1_width_12").rename(folder / "other")
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        interop.load(folder)
