"""dictionary_learning's folders, made by torch from their documented layout, against their mathematics."""

import json

import jax
import numpy as np
import pytest
import torch

from dictlearn import dense, dictionaries, interop
from dictlearn.runs.trained import Trained

D, F, K = 8, 12, 3
X = np.random.default_rng(1).normal(size=(64, D)).astype(np.float32)
LINEAR = {"encoder.weight": (F, D), "encoder.bias": (F,), "decoder.weight": (D, F)}
PLAIN = {"W_enc": (D, F), "b_enc": (F,), "W_dec": (F, D), "b_dec": (D,)}
SHAPES = {
    "AutoEncoder": LINEAR | {"bias": (D,)},
    "AutoEncoderNew": LINEAR | {"decoder.bias": (D,)},
    "GatedAutoEncoder": {
        **{"decoder_bias": (D,), "r_mag": (F,), "gate_bias": (F,), "mag_bias": (F,)},
        **{"encoder.weight": (F, D), "decoder.weight": (D, F)},
    },
    "JumpReluAutoEncoder": PLAIN | {"threshold": (F,)},
    "AutoEncoderTopK": LINEAR | {"b_dec": (D,)},
    "BatchTopKSAE": LINEAR | {"b_dec": (D,)},
    "MatryoshkaBatchTopKSAE": PLAIN,
}
every = pytest.mark.parametrize("kind", SHAPES)


def arrays(kind, threshold=0.4):
    rng = np.random.default_rng(0)
    found = {key: rng.normal(size=shape).astype("f") for key, shape in SHAPES[kind].items()}
    if "threshold" in found:
        found["threshold"] = abs(found["threshold"])
    if "TopK" in kind:
        found |= {"k": np.array(K, "i4"), "threshold": np.array(threshold, "f4")}
    if kind.startswith("Matryoshka"):
        found["group_sizes"] = np.array([2, 4, F - 6])
    return found


def folder(path, kind, w=None, **changes):
    path.mkdir()
    w = arrays(kind) if w is None else w
    torch.save({key: torch.tensor(array) for key, array in w.items()}, path / "ae.pt")
    about = {"dict_class": kind, "activation_dim": D, "dict_size": F, "lm_name": "gpt2"}
    about |= {"submodule_name": "resid_post_layer_8", "layer": 8, "lr": 1e-3}
    about |= {"k": K} if "TopK" in kind else {}
    told = {"trainer": about | changes, "buffer": {"ctx_len": 128}}
    (path / "config.json").write_text(json.dumps(told))
    return path


def stated(kind, w):
    """(codes, reconstruction) by dictionary_learning's mathematics."""
    W_enc = w["W_enc"].T if "W_enc" in w else w["encoder.weight"]
    W_dec = w["W_dec"].T if "W_dec" in w else w["decoder.weight"]
    name = {"AutoEncoder": "bias", "AutoEncoderNew": "decoder.bias"}.get(kind, "b_dec")
    b_dec = w["decoder_bias" if "Gated" in kind else name]
    b_enc = next((w[key] for key in ("b_enc", "encoder.bias") if key in w), 0)
    read = X if kind in ("AutoEncoderNew", "JumpReluAutoEncoder") else X - b_dec
    if kind == "AutoEncoder":
        norm = np.linalg.norm(W_dec, axis=0)
        W_dec, W_enc, b_enc = W_dec / norm, W_enc * norm[:, None], b_enc * norm
    p = read @ W_enc.T + b_enc
    codes = np.maximum(p, 0)
    if "Gated" in kind:
        codes = (p + w["gate_bias"] > 0) * np.maximum(np.exp(w["r_mag"]) * p + w["mag_bias"], 0)
    elif kind == "AutoEncoderTopK":
        codes *= codes >= np.sort(codes, 1)[:, -K, None]
    elif "threshold" in w:
        codes *= codes > w["threshold"]
    return codes, codes @ W_dec.T + b_dec


def agrees(trained, kind, w):
    codes, y = stated(kind, w)
    np.testing.assert_allclose(dense(trained.encode(X), F), codes, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(trained.reconstruct(X), y, rtol=1e-5, atol=2e-5)
    assert 0 < (codes != 0).mean() < 1


@every
def test_a_folder_computes_what_is_documented_and_is_written_back(kind, tmp_path):
    w = arrays(kind)
    trained = interop.load(folder(tmp_path / "theirs", kind))
    agrees(trained, kind, w)
    interop.save(trained, tmp_path / "ours", "dictionary_learning")
    again = torch.load(tmp_path / "ours" / "ae.pt", weights_only=True)
    assert {key: array.shape for key, array in again.items()} == {
        key: array.shape for key, array in w.items()
    }
    written = {key: tensor.numpy() for key, tensor in again.items()}
    agrees(trained, kind, written)
    for key in written.keys() - ({"threshold"} if kind == "AutoEncoderTopK" else set()):
        assert written[key].dtype == w[key].dtype
        if kind != "AutoEncoder":
            np.testing.assert_allclose(written[key], w[key], rtol=1e-6)
    about = json.loads((tmp_path / "ours" / "config.json").read_text())["trainer"]
    assert about["dict_class"] == kind
    assert (about["activation_dim"], about["dict_size"]) == (D, F)
    agrees(interop.load(tmp_path / "ours"), kind, written)


def test_its_place_is_told_in_our_words_and_in_theirs(tmp_path):
    trained = interop.load(folder(tmp_path / "theirs", "AutoEncoderTopK"))
    (site,) = trained.sites
    assert (site.tap, site.target, site.model) == (("resid.8",), ("resid.8",), {"name": "gpt2"})
    assert site.text == {"sequence_length": 128}
    interop.save(trained, tmp_path / "ours", "dictionary_learning")
    about = json.loads((tmp_path / "ours" / "config.json").read_text())["trainer"]
    assert (about["lm_name"], about["submodule_name"], about["layer"]) == (
        "gpt2",
        "resid_post_layer_8",
        8,
    )


def test_groups_are_prefixes(tmp_path):
    trained = interop.load(folder(tmp_path / "theirs", "MatryoshkaBatchTopKSAE"))
    assert dictionaries.describe(trained.module)["prefixes"] == (2, 6, F)


@pytest.mark.parametrize("kind", ["BatchTopKSAE", "MatryoshkaBatchTopKSAE"])
def test_a_threshold_that_is_not_set_is_none(kind, tmp_path):
    w = arrays(kind, threshold=-1)
    trained = interop.load(folder(tmp_path / "theirs", kind, w))
    agrees(trained, kind, w)
    assert trained.variables["stats"]["threshold_weight"] == 0
    interop.save(trained, tmp_path / "ours", "dictionary_learning")
    assert torch.load(tmp_path / "ours" / "ae.pt", weights_only=True)["threshold"] == -1


def test_a_config_that_was_edited_after_its_note_is_refused(tmp_path):
    interop.save(
        interop.load(folder(tmp_path / "a", "BatchTopKSAE")), tmp_path / "b", "dictionary_learning"
    )
    told = json.loads((tmp_path / "b" / "config.json").read_text())
    told["trainer"]["lm_name"] = "pythia"
    (tmp_path / "b" / "config.json").write_text(json.dumps(told))
    with pytest.raises(ValueError, match=r"lm_name='pythia',.*written with 'gpt2'"):
        interop.load(tmp_path / "b")


def test_a_threshold_that_was_edited_after_its_note_is_refused(tmp_path):
    trained = interop.load(folder(tmp_path / "a", "BatchTopKSAE"))
    interop.save(trained, tmp_path / "b", "dictionary_learning")
    state = torch.load(tmp_path / "b" / "ae.pt", weights_only=True)
    torch.save(state | {"threshold": state["threshold"] + 1}, tmp_path / "b" / "ae.pt")
    with pytest.raises(ValueError, match="another dictionary"):
        interop.load(tmp_path / "b")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"subtract_b_dec": False}, r"topk does not subtract b_dec, unlike AutoEncoderTopK"),
        ({"d_out": 4}, r"only autoencoders"),
        ({"norm_weighted": True}, r"norm_weighted"),
    ],
)
def test_what_no_class_computes_is_refused(fields, message, tmp_path):
    module = dictionaries.make("topk", d_in=D, n_latents=F, k=K, **fields)
    variables = module.init(jax.random.key(0), X, method="encode")
    with pytest.raises(ValueError, match=message):
        interop.save(Trained(module, variables), tmp_path / "a", "dictionary_learning")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dict_class": "CrossCoder"}, r"dict_class='CrossCoder'.*'AutoEncoderTopK'"),
        ({"k": 4}, r"k=4, and ae\.pt says \[3\]"),
        (
            {"dict_size": F + 1},
            r"encoder\.weight of ae\.pt is float32\[12, 8\], not floats \[13, 8\]",
        ),
        ({"activation_dim": None}, r"activation_dim=None"),
    ],
)
def test_what_is_not_read_is_named(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        interop.load(folder(tmp_path / "theirs", "AutoEncoderTopK", **changes))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("b_dec"), r"ae\.pt lacks b_dec.*encoder\.bias"),
        (lambda w: w.pop("k"), r"ae\.pt lacks k"),
        (lambda w: w.update(scale=np.ones(2, "f")), r"holds scale too"),
        (lambda w: w.update(b_dec=np.zeros(D, "i4")), r"b_dec of ae\.pt is int32"),
        (lambda w: w["decoder.weight"].fill(np.inf), r"decoder\.weight of ae\.pt .* not finite"),
    ],
)
def test_tensors_that_are_not_as_documented_are_named(change, message, tmp_path):
    w = arrays("AutoEncoderTopK")
    change(w)
    with pytest.raises(ValueError, match=message):
        interop.load(folder(tmp_path / "theirs", "AutoEncoderTopK", w))
