"""SAELens' folders, made from its documented layout, against its mathematics in NumPy."""

import json
import logging

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from dictlearn import dense, dictionaries, interop
from dictlearn.runs.trained import Trained

D, E, F, K = 8, 6, 12, 3
LINEAR = {"W_enc": (D, F), "b_enc": (F,), "W_dec": (F, D), "b_dec": (D,)}
ACROSS = LINEAR | {"W_dec": (F, E), "b_dec": (E,)}
THRESHOLD, SKIP = {"threshold": (F,)}, {"W_skip": (E, D)}
SHAPES = {
    "standard": LINEAR,
    "topk": LINEAR,
    "abstopk": LINEAR,
    "jumprelu": LINEAR | THRESHOLD,
    "gated": {
        **{"W_enc": (D, F), "b_gate": (F,), "b_mag": (F,), "r_mag": (F,)},
        **{"W_dec": (F, D), "b_dec": (D,)},
    },
    "transcoder": ACROSS,
    "skip_transcoder": ACROSS | SKIP,
    "jumprelu_transcoder": ACROSS | THRESHOLD,
    "jumprelu_skip_transcoder": ACROSS | THRESHOLD | SKIP,
}
every = pytest.mark.parametrize("architecture", SHAPES)


def draw(shapes, seed=0):
    rng = np.random.default_rng(seed)
    arrays = {key: rng.normal(size=shape).astype(np.float32) for key, shape in shapes.items()}
    return arrays | {key: abs(arrays[key]) for key in arrays if key == "threshold"}


def config(architecture, **changes):
    across = "transcoder" in architecture
    told = {
        "architecture": architecture,
        "d_in": D,
        "d_sae": F,
        "dtype": "float32",
        "device": "cpu",
    }
    told |= {"apply_b_dec_to_input": not across, "normalize_activations": "none"}
    told |= {"d_out": E} if across else {}
    told |= {"k": K} if "topk" in architecture else {}
    about = {"sae_lens_version": "6.54.12", "model_name": "gpt2", "context_size": 64}
    about |= {"hook_name": "blocks.8.hook_resid_pre", "dataset_path": "openwebtext"}
    return told | {"metadata": about} | changes


def folder(path, architecture, arrays=None, **changes):
    path.mkdir()
    (path / "cfg.json").write_text(json.dumps(config(architecture, **changes)))
    save_file(arrays or draw(SHAPES[architecture]), path / "sae_weights.safetensors")
    return path


def stated(told, w, x):
    """(codes, reconstruction) by SAELens' mathematics."""
    normal = told.get("normalize_activations", "none")
    mean, scale = np.zeros((len(x), 1)), np.ones((len(x), 1))
    if normal == "layer_norm":
        mean, scale = x.mean(1, keepdims=True), x.std(1, ddof=1, keepdims=True) + 1e-5
    if normal == "constant_norm_rescale":
        scale = np.linalg.norm(x, axis=1, keepdims=True) / D**0.5
    x_n = (x - mean) / scale
    read = x_n - w["b_dec"] if told["apply_b_dec_to_input"] else x_n
    kind, norm = told["architecture"], np.ones(F)
    if kind == "gated":
        gate = read @ w["W_enc"] + w["b_gate"] > 0
        codes = gate * np.maximum(read @ (w["W_enc"] * np.exp(w["r_mag"])) + w["b_mag"], 0)
    else:
        p = read @ w["W_enc"] + w["b_enc"]
        if told.get("rescale_acts_by_decoder_norm"):
            norm = np.linalg.norm(w["W_dec"], axis=1)
        p = p * norm
        if kind in ("topk", "abstopk"):
            size = np.abs(p) if kind == "abstopk" else p
            on = size >= np.sort(size, 1)[:, -K, None]
            codes = np.where(on, p if kind == "abstopk" else np.maximum(p, 0), 0)
        else:
            codes = np.maximum(p, 0) * (p > w.get("threshold", 0))
    y = (codes / norm) @ w["W_dec"] + w["b_dec"]
    if "W_skip" in w:
        y = y + x @ w["W_skip"].T
    return codes, y * scale + mean


def agrees(trained, told, w, x):
    codes, y = stated(told, w, x)
    np.testing.assert_allclose(dense(trained.encode(x), F), codes, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(trained.reconstruct(x), y, rtol=1e-5, atol=2e-5)
    assert 0 < (codes != 0).mean() < 1


X = np.random.default_rng(1).normal(size=(64, D)).astype(np.float32)


@every
def test_a_folder_computes_what_is_documented_and_is_written_back(architecture, tmp_path):
    told, w = config(architecture), draw(SHAPES[architecture])
    trained = interop.load(folder(tmp_path / "theirs", architecture))
    agrees(trained, told, w, X)
    interop.save(trained, tmp_path / "ours", "saelens")
    again = load_file(tmp_path / "ours" / "sae_weights.safetensors")
    assert {key: array.shape for key, array in again.items()} == SHAPES[architecture]
    for key, array in again.items():
        np.testing.assert_allclose(array, w[key], rtol=1e-6)
    written = json.loads((tmp_path / "ours" / "cfg.json").read_text())
    for key in told.keys() - {"metadata"}:
        assert written[key] == told[key], key
    assert written["metadata"]["hook_name"] == "blocks.7.hook_resid_post"
    agrees(interop.load(tmp_path / "ours"), told, w, X)


@pytest.mark.parametrize(
    ("architecture", "changes"),
    [
        ("standard", {"apply_b_dec_to_input": False}),
        ("topk", {"rescale_acts_by_decoder_norm": True}),
        ("standard", {"normalize_activations": "layer_norm"}),
        ("jumprelu", {"normalize_activations": "constant_norm_rescale"}),
        ("gated", {"normalize_activations": "layer_norm", "apply_b_dec_to_input": False}),
    ],
)
def test_every_switch_that_changes_the_function_is_followed(architecture, changes, tmp_path):
    path = folder(tmp_path / "theirs", architecture, **changes)
    agrees(interop.load(path), config(architecture, **changes), draw(SHAPES[architecture]), X)
    (path / "cfg.json").write_text(json.dumps(config(architecture)))
    with pytest.raises(AssertionError):
        agrees(interop.load(path), config(architecture, **changes), draw(SHAPES[architecture]), X)


def test_its_place_is_told_in_our_words(tmp_path):
    trained = interop.load(folder(tmp_path / "theirs", "standard"))
    (site,) = trained.sites
    assert (site.tap, site.target, site.model) == (("resid.7",), ("resid.7",), {"name": "gpt2"})
    assert site.text == {"name": "openwebtext", "sequence_length": 64}
    assert trained.name == "theirs"


def test_a_config_from_before_version_6_is_read(tmp_path):
    old = {"d_in": D, "d_sae": F, "hook_point": "blocks.0.hook_mlp_out", "model_name": "gpt2"}
    old |= {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": K}}
    path = folder(tmp_path / "theirs", "topk")
    (path / "cfg.json").write_text(json.dumps(old | {"normalize_activations": False}))
    trained = interop.load(path)
    agrees(trained, config("topk"), draw(SHAPES["topk"]), X)
    assert trained.sites[0].tap == ("mlp_out.0",)


def test_a_scale_that_the_files_do_not_hold_is_told(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "dictlearn"):
        interop.load(
            folder(tmp_path / "a", "topk", normalize_activations="expected_average_only_in")
        )
    assert "mean_norm_sqrt_d" in caplog.text


def test_batch_topk_is_written_as_jumprelu_with_its_threshold(tmp_path):
    module = dictionaries.make("batch_topk", d_in=D, n_latents=F, k=K)
    w = draw(LINEAR)
    params = {"W_enc_FD": w["W_enc"].T, "b_enc_F": w["b_enc"]}
    params |= {"W_dec_FD": w["W_dec"], "b_dec_D": w["b_dec"]}
    stats = {"threshold_mean": np.float32(0.3), "threshold_weight": np.float32(0.5)}
    one = Trained(module, {"params": params, "stats": stats}, name="mine")
    interop.save(one, tmp_path / "ours", "saelens")
    written = json.loads((tmp_path / "ours" / "cfg.json").read_text())
    arrays = load_file(tmp_path / "ours" / "sae_weights.safetensors")
    assert written["architecture"] == "jumprelu"
    np.testing.assert_allclose(arrays["threshold"], np.full(F, 0.6), rtol=1e-6)
    agrees(one, config("jumprelu"), arrays, X)
    assert interop.load(tmp_path / "ours").module == module
    arrays["threshold"] += 1
    save_file(arrays, tmp_path / "ours" / "sae_weights.safetensors")
    with pytest.raises(ValueError, match="another dictionary"):
        interop.load(tmp_path / "ours")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"d_in": "wide"}, r"d_in='wide'.*whole number"),
        ({"d_sae": F + 1}, r"W_enc of .* is F32\[8, 12\], not floats \[8, 13\]"),
        ({"apply_b_dec_to_input": "yes"}, r"apply_b_dec_to_input='yes'.*True, False"),
        ({"normalize_activations": "covariance_whitening"}, r"covariance_whitening.*layer_norm"),
        ({"dictlearn": {"name": "x"}}, r"note of dictlearn"),
    ],
)
def test_what_is_not_read_is_named(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        interop.load(folder(tmp_path / "theirs", "standard", **changes))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("b_dec"), r"lacks b_dec.*W_dec"),
        (lambda w: w.update(scale=np.ones(F, "f")), r"holds scale too"),
        (lambda w: w.update(b_enc=np.zeros(F, "i")), r"b_enc of .* is I32"),
        (lambda w: w["W_dec"].fill(np.nan), r"W_dec of .* not finite"),
    ],
)
def test_tensors_that_are_not_as_documented_are_named(change, message, tmp_path):
    arrays = draw(LINEAR)
    change(arrays)
    with pytest.raises(ValueError, match=message):
        interop.load(folder(tmp_path / "theirs", "standard", arrays))


def test_an_architecture_that_is_not_read_is_answered_with_those_that_are(tmp_path):
    with pytest.raises(ValueError, match=r"architecture='temporal'.*'jumprelu'"):
        interop.load(folder(tmp_path / "theirs", "temporal", draw(LINEAR)))


def test_a_link_out_of_the_folder_is_not_followed(tmp_path):
    path = folder(tmp_path / "theirs", "standard")
    (path / "sae_weights.safetensors").rename(tmp_path / "elsewhere")
    (path / "sae_weights.safetensors").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="leads out of its folder"):
        interop.load(path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("k", 5, r"cfg\.json says k=5,.*written with 3"),
        ("apply_b_dec_to_input", False, r"apply_b_dec_to_input=False,.*written with True"),
        ("normalize_activations", "layer_norm", r"='layer_norm',.*written with 'none'"),
        ("metadata", {"hook_name": "blocks.1.hook_z"}, r"model_name=None,.*written with 'gpt2'"),
    ],
)
def test_a_config_that_was_edited_after_its_note_is_refused(key, value, message, tmp_path):
    interop.save(interop.load(folder(tmp_path / "a", "topk")), tmp_path / "ours", "saelens")
    path = tmp_path / "ours" / "cfg.json"
    told = json.loads(path.read_text()) | {key: value}
    path.write_text(json.dumps(told))
    with pytest.raises(ValueError, match=message):
        interop.load(tmp_path / "ours")
    told.pop("dictlearn")
    path.write_text(json.dumps(told))
    assert interop.load(tmp_path / "ours").name == "ours"
