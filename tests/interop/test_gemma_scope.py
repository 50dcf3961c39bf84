"""Gemma Scope's files, made from their documented layout, against their mathematics in NumPy."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from dictlearn import dense, dictionaries, interop
from dictlearn.runs.trained import Trained

D, E, F = 8, 6, 12
X = np.random.default_rng(1).normal(size=(64, D)).astype(np.float32)


def arrays(d_out=D, skip=False):
    rng = np.random.default_rng(0)
    shapes = {"w_enc": (D, F), "w_dec": (F, d_out), "b_enc": (F,), "b_dec": (d_out,)}
    shapes |= {"threshold": (F,)} | ({"affine_skip_connection": (D, d_out)} if skip else {})
    found = {key: rng.normal(size=shape).astype(np.float32) for key, shape in shapes.items()}
    return found | {"threshold": abs(found["threshold"])}


def first(path, w):
    """As Gemma Scope 1."""
    upper = {"w_enc": "W_enc", "w_dec": "W_dec"}
    np.savez(path / "params.npz", **{upper.get(key, key): array for key, array in w.items()})
    return path / "params.npz"


def second(path, w, **told):
    save_file(w, path / "params.safetensors")
    if told:
        told = {"architecture": "jump_relu", "model_name": "gemma-3-1b"} | told
        (path / "config.json").write_text(json.dumps(told))
    return path / "params.safetensors"


def agrees(trained, w):
    z = X @ w["w_enc"] + w["b_enc"]
    codes = z * (z > w["threshold"])
    y = codes @ w["w_dec"] + w["b_dec"] + X @ w.get("affine_skip_connection", np.zeros(()))
    np.testing.assert_allclose(dense(trained.encode(X), F), codes, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(trained.reconstruct(X), y, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("make", [first, second])
@pytest.mark.parametrize("d_out", [D, E])
def test_a_file_computes_what_is_documented_and_is_written_back(make, d_out, tmp_path):
    w = arrays(d_out)
    w.pop("affine_skip_connection", None)
    trained = interop.load(make(tmp_path, w))
    codes_only = {**w, "affine_skip_connection": np.zeros((D, d_out), "f")}
    agrees(trained, codes_only)
    interop.save(trained, tmp_path / "ours.safetensors", "gemma_scope")
    again = load_file(tmp_path / "ours.safetensors")
    assert again.keys() == w.keys()
    for key, array in again.items():
        np.testing.assert_allclose(array, w[key], rtol=1e-6)


def test_a_skip_is_read_and_its_place_told(tmp_path):
    w = arrays(E, skip=True)
    hooks = {"hf_hook_point_in": "model.layers.3.mlp.input", "hf_hook_point_out": "out.3"}
    trained = interop.load(second(tmp_path, w, **hooks))
    agrees(trained, w)
    (site,) = trained.sites
    assert (site.tap, site.target) == (("model.layers.3.mlp.input",), ("out.3",))
    assert site.model == {"name": "gemma-3-1b"}
    interop.save(trained, tmp_path / "ours.safetensors", "gemma_scope")
    again = load_file(tmp_path / "ours.safetensors")["affine_skip_connection"]
    np.testing.assert_array_equal(again, w["affine_skip_connection"])


def test_an_autoencoder_that_subtracts_b_dec_is_refused(tmp_path):
    module = dictionaries.make("jumprelu", d_in=D, n_latents=F)
    w = arrays()
    params = {"W_enc_FD": w["w_enc"].T, "W_dec_FD": w["w_dec"], "b_enc_F": w["b_enc"]}
    params |= {"b_dec_D": w["b_dec"], "log_threshold_F": np.log(w["threshold"])}
    with pytest.raises(ValueError, match="subtracts b_dec"):
        interop.save(Trained(module, {"params": params}), tmp_path / "a.safetensors", "gemma_scope")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"w_dec": np.zeros((F, 3, D), "f")}, r"w_dec \[12, 3, 8\]"),
        ({"b_enc": np.zeros(F + 1, "f")}, r"b_enc of .* is F32\[13\], not floats \[12\]"),
        ({"scale": np.zeros(F, "f")}, r"holds scale too"),
        ({"b_dec": np.full(D, np.inf, "f")}, r"b_dec of .* not finite"),
    ],
)
def test_what_is_wrong_is_named(change, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        interop.load(second(tmp_path, arrays() | change))
