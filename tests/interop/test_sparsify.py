"""sparsify's folders, made from its documented layout, against its mathematics in NumPy."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from dictlearn import dense, interop

D, F, K = 8, 12, 3
SHAPES = {"encoder.weight": (F, D), "encoder.bias": (F,), "W_dec": (F, D), "b_dec": (D,)}
X = np.random.default_rng(1).normal(size=(64, D)).astype(np.float32)


def arrays(skip=False):
    rng, shapes = np.random.default_rng(0), SHAPES | ({"W_skip": (D, D)} if skip else {})
    return {key: rng.normal(size=shape).astype(np.float32) for key, shape in shapes.items()}


def folder(path, w, **told):
    path.mkdir()
    told = {"d_in": D, "num_latents": F, "k": K, "expansion_factor": 1} | told
    (path / "cfg.json").write_text(json.dumps(told))
    save_file(w, path / "sae.safetensors")
    return path


def stated(w, activation="topk", transcode=False, **_):
    read = X if transcode else X - w["b_dec"]
    z = np.maximum(read @ w["encoder.weight"].T + w["encoder.bias"], 0)
    if activation == "topk":
        codes = np.where(z >= np.sort(z, 1)[:, -K, None], z, 0)
    else:
        groups = z.reshape(len(z), K, F // K)
        codes = np.where(groups == groups.max(-1, keepdims=True), groups, 0).reshape(z.shape)
    y = codes @ w["W_dec"] + w["b_dec"]
    return codes, y + X @ w["W_skip"].T if "W_skip" in w else y


@pytest.mark.parametrize(
    "told",
    [
        {"activation": "topk"},
        {"activation": "groupmax"},
        {"activation": "topk", "transcode": True},
        {"activation": "topk", "transcode": True, "skip_connection": True},
    ],
)
def test_a_folder_computes_what_is_documented_and_is_written_back(told, tmp_path):
    w = arrays("skip_connection" in told)
    trained = interop.load(folder(tmp_path / "theirs", w, **told))
    codes, y = stated(w, **told)
    np.testing.assert_allclose(dense(trained.encode(X), F), codes, atol=1e-5)
    np.testing.assert_allclose(trained.reconstruct(X), y, atol=2e-5)
    interop.save(trained, tmp_path / "ours", "sparsify")
    again = load_file(tmp_path / "ours" / "sae.safetensors")
    assert again.keys() == w.keys()
    for key, array in again.items():
        np.testing.assert_array_equal(array, w[key])
    written = json.loads((tmp_path / "ours" / "cfg.json").read_text())
    assert {key: written[key] for key in told} == told
    assert trained.name == "theirs"


def test_the_number_of_latents_may_be_told_by_the_expansion(tmp_path):
    w = arrays()
    wide = {**w, "encoder.weight": np.tile(w["encoder.weight"], (2, 1))[:16]}
    wide |= {"encoder.bias": np.zeros(16, "f"), "W_dec": np.tile(w["W_dec"], (2, 1))[:16]}
    found = interop.load(folder(tmp_path / "a", wide, num_latents=0, expansion_factor=2))
    assert found.module.n_latents == 16


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"activation": "jumprelu"}, r"activation='jumprelu'.*'topk', 'groupmax'"),
        ({"k": 0}, r"k=0 must be a whole number"),
        ({"k": F + 1}, r"k=13"),
        ({"skip_connection": True}, r"lacks W_skip"),
        ({"num_latents": 10**9}, r"encoder\.weight of .* not floats \[1000000000, 8\]"),
    ],
)
def test_what_is_not_read_is_named(told, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        interop.load(folder(tmp_path / "theirs", arrays(), **told))


@pytest.mark.parametrize(
    ("key", "value", "was"), [("k", 4, "3"), ("activation", "groupmax", "'topk'")]
)
def test_a_config_that_was_edited_after_its_note_is_refused(key, value, was, tmp_path):
    interop.save(interop.load(folder(tmp_path / "a", arrays())), tmp_path / "ours", "sparsify")
    path = tmp_path / "ours" / "cfg.json"
    told = json.loads(path.read_text()) | {key: value}
    path.write_text(json.dumps(told))
    with pytest.raises(ValueError, match=rf"cfg\.json says {key}={value!r},.*written with {was}"):
        interop.load(tmp_path / "ours")
    told.pop("dictlearn")
    path.write_text(json.dumps(told))
    assert interop.load(tmp_path / "ours").module.activation.k == told["k"]
