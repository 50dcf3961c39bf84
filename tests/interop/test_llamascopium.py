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
        ({"sae_type": "lorsa"}, r"sae_type='lorsa'"),
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


HEADS = ("blocks.1.hook_mlp_out", "blocks.2.hook_mlp_out", "blocks.3.hook_mlp_out")
LAYERS = (tuple(f"blocks.{n}.hook_resid_mid" for n in range(3)), HEADS)
XS = np.random.default_rng(2).normal(size=(64, 3, D)).astype("f")


def drawn(shapes, hooks):
    rng = np.random.default_rng(0)
    w = {key: rng.normal(size=shape).astype("f") for key, shape in shapes.items()}
    return w | {AVERAGE + hook: np.array(n + 3.0, "f") for n, hook in enumerate(hooks)}


def crosscoder(path, act_fn, norm, same=True):
    """(path, arrays, config) of a crosscoder; `same`: its latents have the same norm in all heads."""
    shapes = {"W_E": (3, D, F), "b_E": (3, F), "W_D": (3, F, D), "b_D": (3, D)}
    w = drawn(shapes | ({LOG: (F,)} if act_fn == "jumprelu" else {}), HEADS)
    if same:
        norm_FH = np.linalg.norm(w["W_D"], axis=2)
        w["W_D"] *= (norm_FH[:1] / norm_FH)[..., None]
    told = config(act_fn=act_fn, norm_activation=norm) | {"sae_type": "crosscoder"}
    told = {k: v for k, v in told.items() if k not in ("hook_point_in", "hook_point_out")}
    told |= {"hook_points": list(HEADS)}
    return folder(path, w, told), w, told


def clt(path, act_fn, norm, ranks):
    shapes = {"W_E": (3, D, F), "b_E": (3, F)}
    shapes |= {f"W_D.{i}": (i + 1, F, D) for i in range(3)} | {f"b_D.{i}": (D,) for i in range(3)}
    shapes |= {LOG: (3, F)} if act_fn == "jumprelu" else {}
    w = drawn(shapes, LAYERS[0] + LAYERS[1])
    told = config(act_fn=act_fn, norm_activation=norm, sparsity_include_decoder_norm=ranks)
    told |= {"sae_type": "clt", "hook_points_in": LAYERS[0], "hook_points_out": LAYERS[1]}
    return folder(path, w, told), w, told


def scaled(w, told, hooks):
    """The scale of each hook, as a column."""
    averages = np.array([w[AVERAGE + hook] for hook in hooks])[:, None]
    return 1 if told["norm_activation"] == "inference" else D**0.5 / averages


def gated(z, norms, act_fn, theta):
    """Codes from pre-activations; the last axis has all latents among which top_k chooses."""
    u = np.maximum(z * norms, 0)
    if act_fn == "jumprelu":
        return z * (u > theta)
    if act_fn != "relu":
        u = u * (u >= np.sort(u, -1)[..., -K, None])
    return u / norms


def stated_crosscoder(w, told):
    scale, norm_HF = scaled(w, told, HEADS), np.linalg.norm(w["W_D"], axis=2)
    z = (np.einsum("bhd,hdf->bhf", scale * XS, w["W_E"]) + w["b_E"]).sum(1)
    codes = gated(z[:, None], norm_HF, told["act_fn"], np.exp(w.get(LOG, 0)))
    y = (np.einsum("bhf,hfd->bhd", codes, w["W_D"]) + w["b_D"]) / scale
    np.testing.assert_allclose(codes, codes[:, :1] + 0 * codes, rtol=1e-4)
    return codes[:, 0], y.reshape(len(y), -1)


def stated_clt(w, told):
    decoders = [w[f"W_D.{i}"] for i in range(3)]
    squares = [sum((W[m] ** 2).sum(1) for W in decoders[m:]) for m in range(3)]
    norms = np.sqrt(squares) if told["sparsity_include_decoder_norm"] else np.ones((3, F))
    z = np.einsum("bld,ldf->blf", scaled(w, told, LAYERS[0]) * XS, w["W_E"]) + w["b_E"]
    whole = lambda a: np.broadcast_to(a, (*np.shape(a)[:-2], 3, F)).reshape(*np.shape(a)[:-2], -1)
    theta = np.exp(w.get(LOG, np.zeros((3, F))))
    codes = gated(whole(z), whole(norms), told["act_fn"], whole(theta)).reshape(z.shape)
    y = [np.einsum("blf,lfd->bd", codes[:, : i + 1], W) for i, W in enumerate(decoders)]
    y = np.stack([one + w[f"b_D.{i}"] for i, one in enumerate(y)], 1)
    woven = codes.transpose(0, 2, 1).reshape(len(XS), -1)
    return woven, (y / scaled(w, told, LAYERS[1])).reshape(len(XS), -1)


def comes_back(trained, codes, y, format, path):
    """It agrees with the mathematics, and so does what is written of it, without its note too."""
    x = XS.reshape(len(XS), -1)
    interop.save(trained, path / "ours", format)
    (path / "bare").mkdir()
    told = json.loads((path / "ours" / "config.json").read_text())
    told.pop("dictlearn")
    (path / "bare" / "config.json").write_text(json.dumps(told))
    weights = (path / "ours" / "sae_weights.safetensors").read_bytes()
    (path / "bare" / "sae_weights.safetensors").write_bytes(weights)
    for one in (trained, interop.load(path / "ours"), interop.load(path / "bare")):
        assert 0 < (codes != 0).mean() < 1
        found = dense(one.encode(x), codes.shape[1])
        np.testing.assert_allclose(found, codes, rtol=5e-5, atol=1e-5)
        np.testing.assert_allclose(one.reconstruct(x), y, rtol=1e-4, atol=1e-4)
        assert one.sites == trained.sites


@pytest.mark.parametrize("act_fn", ["relu", "jumprelu", "topk"])
@pytest.mark.parametrize("norm", ["inference", "dataset-wise"])
def test_a_crosscoder_computes_what_the_library_does(act_fn, norm, tmp_path):
    path, w, told = crosscoder(tmp_path / "theirs", act_fn, norm, same=act_fn != "relu")
    trained = interop.load(path)
    assert trained.sites[0].tap == ("mlp_out.1", "mlp_out.2", "mlp_out.3")
    comes_back(trained, *stated_crosscoder(w, told), "llamascopium", tmp_path)


@pytest.mark.parametrize("act_fn", ["relu", "jumprelu", "layertopk"])
@pytest.mark.parametrize("norm", ["inference", "dataset-wise"])
@pytest.mark.parametrize("ranks", [True, False])
def test_a_cross_layer_transcoder_computes_what_the_library_does(act_fn, norm, ranks, tmp_path):
    path, w, told = clt(tmp_path / "theirs", act_fn, norm, ranks)
    trained = interop.load(path)
    assert trained.sites[0].target == ("mlp_out.1", "mlp_out.2", "mlp_out.3")
    comes_back(trained, *stated_clt(w, told), "llamascopium_clt", tmp_path)


@pytest.mark.parametrize("act_fn", ["jumprelu", "topk"])
def test_a_crosscoder_with_codes_of_its_own_in_every_head_is_refused(act_fn, tmp_path):
    path, _, _ = crosscoder(tmp_path / "theirs", act_fn, "inference", same=False)
    with pytest.raises(ValueError, match=f"crosscoder of {act_fn} has other codes in every head"):
        interop.load(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"act_fn": "topk"}, r"act_fn='topk'.*'layertopk'"),
        ({"act_fn": "batchlayertopk"}, r"act_fn='batchlayertopk'"),
        ({"norm_activation": "token-wise"}, r"norm_activation='token-wise'"),
        ({"hook_points_in": HEADS[:2]}, r"hook_points_in=.* must be 3 hooks"),
        ({"hook_points_in": ["a", "b", "c"]}, r"needs dataset_average_activation_norm\.a"),
        ({"d_model": D + 1}, r"W_E of .* not floats \[3, 9, 16\]"),
    ],
)
def test_what_is_not_read_of_a_cross_layer_transcoder_is_named(changes, message, tmp_path):
    path, _, told = clt(tmp_path / "theirs", "relu", "dataset-wise", True)
    (path / "config.json").write_text(json.dumps(told | changes))
    with pytest.raises(ValueError, match=message):
        interop.load(path)
