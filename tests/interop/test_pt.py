"""openai's and Goodfire's files, made by torch from their documented layout, against their mathematics."""

import numpy as np
import pytest
import torch

from dictlearn import dense, dictionaries, interop
from dictlearn.normalise import Norm
from dictlearn.runs.trained import Trained

D, F, K = 8, 12, 3
X = np.random.default_rng(1).normal(1, 2, size=(64, D)).astype(np.float32)
OPENAI = {"pre_bias": (D,), "latent_bias": (F,), "encoder.weight": (F, D), "decoder.weight": (D, F)}
STEMS = {"goodfire": ("encoder_linear", "decoder_linear"), "qresearch": ("encoder", "decoder")}


def draw(shapes):
    rng = np.random.default_rng(0)
    return {key: rng.normal(size=shape).astype("f") for key, shape in shapes.items()}


def openai(path, kind="TopK", w=None, **own):
    state = {key: torch.tensor(array) for key, array in (w or draw(OPENAI)).items()}
    state |= {"stats_last_nonzero": torch.zeros(F, dtype=torch.long)}
    state |= {"latents_activation_frequency": torch.ones(F), "activation": kind}
    state |= {"latents_mean_square": torch.zeros(F)}
    own = {"k": K, "postact_fn": "ReLU"} | own if kind == "TopK" else own
    torch.save(state | {"activation_state_dict": own}, path)
    return path


def stated(w, kind):
    mean, scale = np.zeros((len(X), 1)), np.ones((len(X), 1))
    if kind == "TopK":
        mean, scale = X.mean(1, keepdims=True), X.std(1, ddof=1, keepdims=True) + 1e-5
    p = ((X - mean) / scale - w["pre_bias"]) @ w["encoder.weight"].T + w["latent_bias"]
    codes = np.maximum(p, 0)
    if kind == "TopK":
        codes *= p >= np.sort(p, 1)[:, -K, None]
    return codes, (codes @ w["decoder.weight"].T + w["pre_bias"]) * scale + mean


def agrees(trained, codes, y):
    assert 0 < (codes != 0).mean() < 1
    np.testing.assert_allclose(dense(trained.encode(X), F), codes, rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(trained.reconstruct(X), y, rtol=2e-5, atol=5e-5)


@pytest.mark.parametrize("kind", ["TopK", "ReLU"])
def test_openais_file_computes_what_is_documented_and_is_written_back(kind, tmp_path):
    w = draw(OPENAI)
    trained = interop.load(openai(tmp_path / "theirs.pt", kind))
    agrees(trained, *stated(w, kind))
    interop.save(trained, tmp_path / "ours.pt", "openai")
    again = torch.load(tmp_path / "ours.pt", weights_only=True)
    theirs = torch.load(tmp_path / "theirs.pt", weights_only=True)
    assert again.keys() == theirs.keys()
    for key, value in theirs.items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(again[key], value, rtol=1e-6, atol=1e-7)
        else:
            assert again[key] == value
    agrees(interop.load(tmp_path / "ours.pt"), *stated(w, kind))


def test_what_openais_state_dict_says_twice_is_passed_over(tmp_path):
    state = torch.load(openai(tmp_path / "a.pt"), weights_only=True)
    torch.save(state | {"activation.k": K, "activation.postact_fn": "ReLU"}, tmp_path / "a.pt")
    agrees(interop.load(tmp_path / "a.pt"), *stated(draw(OPENAI), "TopK"))


def test_openais_topk_on_raw_activations_is_refused(tmp_path):
    trained = interop.load(openai(tmp_path / "theirs.pt"))
    assert trained.norm == Norm("token_layernorm")
    raw = Trained(trained.module, trained.variables)
    with pytest.raises(ValueError, match=r"TopK works under token_layernorm.*under none"):
        interop.save(raw, tmp_path / "ours.pt", "openai")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "Identity"}, r"activation='Identity'.*'ReLU', 'TopK'"),
        ({"postact_fn": "Identity"}, r"postact_fn='Identity'"),
        ({"k": 0}, r"k=0 must be a whole number"),
        ({"w": draw(OPENAI | {"pre_bias": (F,)})}, r"pre_bias of a\.pt is float32\[12\]"),
        ({"w": draw(OPENAI | {"encoder.weight": (F,)})}, r"encoder\.weight of a\.pt is \[12\]"),
    ],
)
def test_what_is_not_read_of_openais_files_is_named(fields, message, tmp_path):
    with pytest.raises(ValueError, match=r"a\.pt.*openai.*" + message):
        interop.load(openai(tmp_path / "a.pt", **fields))


@pytest.mark.parametrize("name", STEMS)
@pytest.mark.parametrize("suffix", [".pt", ".pth"])
def test_two_linear_layers_compute_what_is_documented_and_are_written_back(name, suffix, tmp_path):
    enc, dec = STEMS[name]
    shapes = {f"{enc}.weight": (F, D), f"{enc}.bias": (F,)}
    w = draw(shapes | {f"{dec}.weight": (D, F), f"{dec}.bias": (D,)})
    path = tmp_path / f"theirs{suffix}"
    torch.save({key: torch.tensor(array) for key, array in w.items()}, path)
    codes = np.maximum(X @ w[f"{enc}.weight"].T + w[f"{enc}.bias"], 0)
    trained = interop.load(path)
    agrees(trained, codes, codes @ w[f"{dec}.weight"].T + w[f"{dec}.bias"])
    interop.save(trained, tmp_path / "ours.pt", "linear_pt")
    again = torch.load(tmp_path / "ours.pt", weights_only=True)
    encoder, decoder = STEMS["goodfire"]
    assert again.keys() == {
        f"{stem}.{end}" for stem in (encoder, decoder) for end in ("weight", "bias")
    }
    np.testing.assert_array_equal(again[f"{decoder}.weight"].numpy(), w[f"{dec}.weight"])
    np.testing.assert_array_equal(again[f"{encoder}.weight"].numpy(), w[f"{enc}.weight"])


def test_two_linear_layers_subtract_nothing(tmp_path):
    trained = interop.load(openai(tmp_path / "theirs.pt", "ReLU"))
    assert dictionaries.describe(trained.module)["subtract_b_dec"]
    with pytest.raises(ValueError, match="subtract nothing"):
        interop.save(trained, tmp_path / "ours.pt", "linear_pt")
