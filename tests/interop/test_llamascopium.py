"""Llamascopium's folders, made as its code makes them, against their mathematics in NumPy."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from dictlearn import dense, interop

D, F, K = 8, 16, 3
X = np.random.default_rng(1).normal(size=(64, D)).astype("f")
LOG = "activation_function.log_jumprelu_threshold"
AVERAGE = "dataset_average_activation_norm."
HOOKS = ("blocks.5.hook_resid_mid", "blocks.5.hook_mlp_out")
R1 = {"W_E": "encoder.weight", "b_E": "encoder.bias", "W_D": "decoder.weight"}
R1 |= {"b_D": "decoder.bias", LOG: "log_jumprelu_threshold"}


def arrays(kind="jumprelu"):
    rng = np.random.default_rng(0)
    shapes = {"W_E": (D, F), "b_E": (F,), "W_D": (F, D), "b_D": (D,)}
    shapes |= {LOG: (F,)} if kind == "jumprelu" else {}
    found = {key: rng.normal(size=shape).astype("f") for key, shape in shapes.items()}
    averages = {AVERAGE + hook: np.array(n + 3.0, "f") for n, hook in enumerate(HOOKS)}
    return found | averages


def config(**changes):
    told = {"sae_type": "sae", "d_model": D, "expansion_factor": F / D, "use_decoder_bias": True}
    told |= {"act_fn": "jumprelu", "norm_activation": "dataset-wise", "top_k": K}
    told |= {"sparsity_include_decoder_norm": True}
    return told | {"hook_point_in": HOOKS[0], "hook_point_out": HOOKS[1]} | changes


def folder(path, w, told, old=False):
    path.mkdir()
    (path / "config.json").write_text(json.dumps(told))
    name = lambda key: R1.get(key, key) if old else key
    turned = {name(key): array.T.copy() if old else array for key, array in w.items()}
    save_file(turned, path / "sae_weights.safetensors")
    return path


def stated(w, told):
    width = D**0.5
    scales = [width / w[AVERAGE + told[f"hook_point_{end}"]] for end in ("in", "out")]
    if told["norm_activation"] == "inference":
        scales = [1, 1]
    if told["norm_activation"] == "token-wise":
        scales = [width / np.linalg.norm(X, axis=1, keepdims=True)] * 2
    z = (scales[0] * X) @ w["W_E"] + w["b_E"]
    n = np.linalg.norm(w["W_D"], axis=1) if told["sparsity_include_decoder_norm"] else np.ones(F)
    u = z * n
    if told["act_fn"] == "topk":
        u = np.maximum(u, 0)
        u = u * (u >= np.sort(u, 1)[:, -told["top_k"], None])
    else:
        u = u * (u > (np.exp(w[LOG]) if told["act_fn"] == "jumprelu" else 0))
    codes = u / n
    return codes, (codes @ w["W_D"] + w["b_D"]) / scales[1]


def agrees(trained, codes, y):
    assert 0 < (codes != 0).mean() < 1
    np.testing.assert_allclose(dense(trained.encode(X), F), codes, rtol=2e-5, atol=1e-5)
    np.testing.assert_allclose(trained.reconstruct(X), y, rtol=2e-5, atol=3e-5)


AUTO = {"hook_point_out": HOOKS[0]}


@pytest.mark.parametrize("act_fn", ["relu", "jumprelu", "topk"])
@pytest.mark.parametrize("norm", ["inference", "dataset-wise", "token-wise"])
@pytest.mark.parametrize("ranks", [True, False])
def test_a_folder_computes_what_the_library_does(act_fn, norm, ranks, tmp_path):
    told = config(act_fn=act_fn, norm_activation=norm, sparsity_include_decoder_norm=ranks)
    told |= AUTO if norm == "token-wise" else {}
    w = arrays(act_fn)
    trained = interop.load(folder(tmp_path / "theirs", w, told))
    agrees(trained, *stated(w, told))
    assert trained.sites[0].tap == ("resid_mid.5",)


def test_llama_scope_r1_is_read(tmp_path):
    told = config()
    agrees(interop.load(folder(tmp_path / "a", arrays(), told, old=True)), *stated(arrays(), told))


@pytest.mark.parametrize("act_fn", ["relu", "jumprelu", "topk"])
def test_a_folder_is_written_back(act_fn, tmp_path):
    told = config(act_fn=act_fn, norm_activation="inference")
    told |= {} if act_fn == "topk" else {"sparsity_include_decoder_norm": False}
    w = {key: array for key, array in arrays(act_fn).items() if AVERAGE not in key}
    trained = interop.load(folder(tmp_path / "theirs", w, told))
    interop.save(trained, tmp_path / "ours", "llamascopium")
    again = load_file(tmp_path / "ours" / "sae_weights.safetensors")
    assert again.keys() == w.keys()
    for key, array in again.items():
        np.testing.assert_allclose(array, w[key], rtol=1e-5)
    written = json.loads((tmp_path / "ours" / "config.json").read_text())
    dull = {"top_k"} if act_fn != "topk" else set()
    assert {key: written[key] for key in told.keys() - dull} == {
        key: told[key] for key in told.keys() - dull
    }
    written["act_fn"] = "relu" if act_fn != "relu" else "topk"
    (tmp_path / "ours" / "config.json").write_text(json.dumps(written))
    with pytest.raises(ValueError, match=r"act_fn|lacks|holds"):
        interop.load(tmp_path / "ours")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sae_type": "clt"}, r"sae_type='clt'"),
        ({"act_fn": "batchtopk"}, r"act_fn='batchtopk'.*'jumprelu'"),
        ({"use_glu_encoder": True}, r"use_glu_encoder=True"),
        ({"norm_activation": "batch-wise"}, r"norm_activation='batch-wise'"),
        (
            {"hook_point_out": "blocks.7.hook_z"},
            r"needs dataset_average_activation_norm\.blocks\.7",
        ),
        ({"d_model": D + 1}, r"W_E of .* not floats \[9, 16\]"),
    ],
)
def test_what_is_not_read_is_named(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        interop.load(folder(tmp_path / "theirs", arrays(), config(**changes)))
