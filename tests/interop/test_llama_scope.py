"""Llama Scope's folders, made from their loader's code, against its mathematics in NumPy."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from dictlearn import dense, interop

D, F, K = 8, 16, 3
X = np.random.default_rng(1).normal(size=(64, D)).astype("f")
SHAPES = {"encoder.weight": (F, D), "encoder.bias": (F,)}
SHAPES |= {"decoder.weight": (D, F), "decoder.bias": (D,)}


def arrays():
    rng = np.random.default_rng(0)
    return {key: rng.normal(size=shape).astype("f") for key, shape in SHAPES.items()}


def config(**changes):
    told = {"d_model": D, "d_sae": F, "act_fn": "jumprelu", "jump_relu_threshold": 0.7, "top_k": K}
    told |= {"norm_activation": "dataset-wise", "sparsity_include_decoder_norm": True}
    told |= {"dataset_average_activation_norm": {"in": 3.0, "out": 4.0}}
    told |= {
        "apply_decoder_bias_to_pre_encoder": False,
        "hook_point_in": "blocks.15.hook_resid_post",
    }
    return told | {"hook_point_out": "blocks.15.hook_resid_post"} | changes


def folder(path, told):
    (path / "checkpoints").mkdir(parents=True)
    (path / "hyperparams.json").write_text(json.dumps(told))
    save_file(arrays(), path / "checkpoints" / "final.safetensors")
    return path


def stated(told):
    w = arrays()
    W, b, V, c = (w[key].astype("f8") for key in SHAPES)
    if told["norm_activation"] == "dataset-wise":
        s_in, s_out = (D**0.5 / told["dataset_average_activation_norm"][k] for k in ("in", "out"))
        b, c, V = b / s_in, c / s_out, V * s_in / s_out
    if told["sparsity_include_decoder_norm"]:
        n = np.linalg.norm(V, axis=0)
        V, W, b = V / n, W * n[:, None], b * n
    read = X - c if told["apply_decoder_bias_to_pre_encoder"] else X
    z = read @ W.T + b
    codes = np.maximum(z, 0)
    if told["act_fn"] == "jumprelu" or (
        told["act_fn"] == "topk" and told["jump_relu_threshold"] > 0
    ):
        codes *= z > told["jump_relu_threshold"]
    elif told["act_fn"] == "topk":
        codes *= z >= np.sort(z, 1)[:, -K, None]
    return codes, codes @ V.T + c


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"sparsity_include_decoder_norm": False},
        {"apply_decoder_bias_to_pre_encoder": True},
        {"norm_activation": "inference"},
        {"hook_point_out": "blocks.15.hook_mlp_out"},
        {"act_fn": "relu"},
        {"act_fn": "topk"},
        {"act_fn": "topk", "jump_relu_threshold": 0.0},
    ],
)
def test_a_folder_computes_what_its_loader_makes_of_it(changes, tmp_path):
    told = config(**changes)
    trained = interop.load(folder(tmp_path / "theirs", told))
    codes, y = stated(told)
    assert 0 < (codes != 0).mean() < 1
    np.testing.assert_allclose(dense(trained.encode(X), F), codes, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(trained.reconstruct(X), y, rtol=1e-5, atol=2e-5)
    assert trained.sites[0].tap == ("resid.15",)


@pytest.mark.parametrize("act_fn", ["relu", "topk"])
@pytest.mark.parametrize("bias", [True, False])
def test_a_folder_is_written_back(act_fn, bias, tmp_path):
    told = config(act_fn=act_fn, norm_activation="inference", sparsity_include_decoder_norm=False)
    told |= {"apply_decoder_bias_to_pre_encoder": bias, "jump_relu_threshold": 0.0}
    trained = interop.load(folder(tmp_path / "theirs", told))
    interop.save(trained, tmp_path / "ours", "llama_scope")
    for key, array in load_file(tmp_path / "ours" / "checkpoints" / "final.safetensors").items():
        np.testing.assert_array_equal(array, arrays()[key])
    written = json.loads((tmp_path / "ours" / "hyperparams.json").read_text())
    dull = {"dataset_average_activation_norm", *(["top_k"] if act_fn == "relu" else [])}
    assert {k: written[k] for k in told.keys() - dull} == {k: told[k] for k in told.keys() - dull}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"act_fn": "gelu"}, r"act_fn='gelu'"),
        ({"jump_relu_threshold": "high"}, r"jump_relu_threshold='high' must be a number"),
        ({"norm_activation": "token-wise"}, r"norm_activation='token-wise'"),
        ({"dataset_average_activation_norm": None}, r"dataset_average_activation_norm=None"),
        (
            {"dataset_average_activation_norm": {"in": 0, "out": 1}},
            r"norm\.in=0\.0 must be positive",
        ),
        ({"d_sae": 2 * F}, r"encoder\.weight of .* not floats \[32, 8\]"),
    ],
)
def test_what_is_not_read_is_named(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        interop.load(folder(tmp_path / "theirs", config(**changes)))
