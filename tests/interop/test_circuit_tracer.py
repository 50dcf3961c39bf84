"""circuit-tracer's files, made from their documented layout, against their mathematics in NumPy."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from dictlearn import dense, dictionaries, interop
from dictlearn.runs.trained import Site, Trained

D, F, L = 8, 12, 3
RNG = np.random.default_rng(1)
X, XS = RNG.normal(size=(64, D)).astype("f"), RNG.normal(size=(64, L, D)).astype("f")
CONFIG = """# of a set
model_name: google/gemma-2-2b
model_kind: transcoder_set
feature_input_hook: "hook_resid_mid"
feature_output_hook: hook_mlp_out  # written
transcoders:
  - hf://someone/else
"""


def draw(shapes):
    rng = np.random.default_rng(0)
    found = {key: rng.normal(size=shape).astype("f") for key, shape in shapes.items()}
    return {key: abs(array) if "threshold" in key else array for key, array in found.items()}


def layer(threshold=True, skip=False):
    shapes = {"W_enc": (F, D), "W_dec": (F, D), "b_enc": (F,), "b_dec": (D,)}
    shapes |= {"activation_function.threshold": (F,)} if threshold else {}
    return draw(shapes | ({"W_skip": (D, D)} if skip else {}))


def agrees(trained, x, codes, y):
    assert 0 < (codes != 0).mean() < 1
    np.testing.assert_allclose(
        dense(trained.encode(x), codes.shape[1]), codes, rtol=1e-5, atol=1e-5
    )
    np.testing.assert_allclose(trained.reconstruct(x), y, rtol=1e-5, atol=3e-5)


@pytest.mark.parametrize("threshold", [True, False])
@pytest.mark.parametrize("skip", [True, False])
def test_a_layer_computes_what_is_documented_and_is_written_back(threshold, skip, tmp_path):
    w = layer(threshold, skip)
    save_file(w, tmp_path / "layer_2.safetensors")
    (tmp_path / "config.yaml").write_text(CONFIG)
    p = X @ w["W_enc"].T + w["b_enc"]
    codes = p * (p > w.get("activation_function.threshold", 0))
    y = codes @ w["W_dec"] + w["b_dec"] + (X @ w["W_skip"].T if skip else 0)
    trained = interop.load(tmp_path / "layer_2.safetensors")
    agrees(trained, X, codes, y)
    (site,) = trained.sites
    assert (site.tap, site.target) == (("resid_mid.2",), ("mlp_out.2",))
    assert site.model == {"name": "google/gemma-2-2b"}
    interop.save(trained, tmp_path / "ours.safetensors", "circuit_tracer")
    again = load_file(tmp_path / "ours.safetensors")
    assert again.keys() == w.keys()
    for key, array in again.items():
        np.testing.assert_allclose(array, w[key], rtol=1e-6)
    agrees(interop.load(tmp_path / "ours.safetensors"), X, codes, y)


def transcoder(layer, site=True, n_latents=F):
    module = dictionaries.make("relu", d_in=D, d_out=D, n_latents=n_latents, sparsity=0.1)
    shapes = {"W_enc_FD": (n_latents, D), "W_dec_FD": (n_latents, D)}
    params = draw(shapes | {"b_enc_F": (n_latents,), "b_dec_D": (D,)})
    at = Site({"name": "toy"}, (f"mlp_in.{layer}",), (f"mlp_out.{layer}",), {})
    return Trained(module, {"params": params}, sites=(at,) if site else (), name=f"of_{layer}")


def test_a_set_is_written_and_loaded_in_one_call(tmp_path):
    interop.save_all(
        [transcoder(layer) for layer in (1, 10, 0, *range(2, 10))],
        tmp_path / "set",
        "circuit_tracer",
    )
    found = interop.load_all(tmp_path / "set")
    assert list(found) == [f"layer_{n}" for n in range(11)]
    assert [one.name for one in found.values()] == [f"of_{n}" for n in range(11)]
    written = (tmp_path / "set" / "config.yaml").read_text()
    assert (
        'model_kind: "transcoder_set"\nscan: "toy"\nfeature_input_hook: "mlp.hook_in"\n' in written
    )
    with pytest.raises(ValueError, match="11 dictionaries"):
        interop.load(tmp_path / "set")


@pytest.mark.parametrize(
    ("of", "said"),
    [
        ([transcoder(0), transcoder(2)], "of 0, 2"),
        ([transcoder(0), transcoder(0)], "of 0, 0"),
        ([transcoder(0), transcoder(1, n_latents=8)], r"\[8, 12\]"),
        ([transcoder(0, site=False)], "of_0"),
    ],
)
def test_what_is_no_set_is_refused(of, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        interop.save_all(of, tmp_path / "set", "circuit_tracer")
    assert not list(tmp_path.iterdir())


def clt(path, threshold=True):
    path.mkdir()
    for i in range(L):
        shapes = {f"W_enc_{i}": (F, D), f"b_enc_{i}": (F,), f"b_dec_{i}": (D,)}
        shapes |= {f"threshold_{i}": (F,)} if threshold else {}
        arrays = {key: array + i for key, array in draw(shapes).items()}
        save_file(arrays, path / f"W_enc_{i}.safetensors")
        save_file(draw({f"W_dec_{i}": (F, L - i, D)}), path / f"W_dec_{i}.safetensors")
    return path


def stated(path):
    """(codes [B, L, F], reconstruction [B, L, D])."""
    enc = {k: a for i in range(L) for k, a in load_file(path / f"W_enc_{i}.safetensors").items()}
    dec = [load_file(path / f"W_dec_{i}.safetensors")[f"W_dec_{i}"] for i in range(L)]
    p = np.stack([XS[:, i] @ enc[f"W_enc_{i}"].T + enc[f"b_enc_{i}"] for i in range(L)], 1)
    codes = p * (p > np.stack([enc.get(f"threshold_{i}", np.zeros(F)) for i in range(L)]))
    y = np.stack([np.tile(enc[f"b_dec_{i}"], (len(XS), 1)) for i in range(L)], 1)
    for source in range(L):
        for target in range(source, L):
            y[:, target] += codes[:, source] @ dec[source][:, target - source]
    return codes, y


@pytest.mark.parametrize("threshold", [True, False])
def test_a_cross_layer_transcoder_computes_what_is_documented(threshold, tmp_path):
    codes, y = stated(clt(tmp_path / "theirs", threshold))
    (tmp_path / "theirs" / "config.yaml").write_text(CONFIG)
    trained = interop.load(tmp_path / "theirs")
    woven = codes.transpose(0, 2, 1).reshape(len(XS), -1)
    agrees(trained, XS.reshape(len(XS), -1), woven, y.reshape(len(XS), -1))
    assert trained.sites[0].target == ("mlp_out.0", "mlp_out.1", "mlp_out.2")
    interop.save(trained, tmp_path / "ours", "circuit_tracer_clt")
    files = sorted(path.name for path in (tmp_path / "theirs").iterdir())
    assert sorted(path.name for path in (tmp_path / "ours").iterdir()) == files
    for name in files[:-1]:
        a, b = load_file(tmp_path / "theirs" / name), load_file(tmp_path / "ours" / name)
        assert a.keys() == b.keys()
        for key, array in a.items():
            np.testing.assert_allclose(b[key], array, rtol=1e-6)
    written = (tmp_path / "ours" / "config.yaml").read_text()
    assert 'feature_input_hook: "hook_resid_mid"\n' in written
    assert 'model_kind: "cross_layer_transcoder"\n' in written


def test_a_missing_layer_and_another_shape_are_named(tmp_path):
    path = clt(tmp_path / "theirs")
    save_file(draw({"W_dec_1": (F, L, D)}), path / "W_dec_1.safetensors")
    with pytest.raises(
        ValueError, match=r"W_dec_1 of .* is F32\[12, 3, 8\], not floats \[12, 2, 8\]"
    ):
        interop.load(path)
    (path / "W_enc_1.safetensors").unlink()
    with pytest.raises(ValueError, match=r"W_enc_1\.safetensors is missing"):
        interop.load(path)


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("topk", {"k": 3, "d_out": D}, r"not topk with topk"),
        ("relu", {"sparsity": 0.1}, r"subtracts b_dec"),
        ("relu", {"sparsity": 0.1, "d_out": 4}, r"writes 8 columns, not 4"),
    ],
)
def test_what_circuit_tracer_does_not_compute_is_refused(name, fields, message, tmp_path):
    module = dictionaries.make(name, d_in=D, n_latents=F, **fields)
    width = fields.get("d_out", D)
    params = {"W_enc_FD": np.ones((F, D), "f"), "W_dec_FD": np.ones((F, width), "f")}
    params |= {"b_enc_F": np.ones(F, "f"), "b_dec_D": np.ones(width, "f")}
    with pytest.raises(ValueError, match=message):
        interop.save(
            Trained(module, {"params": params}), tmp_path / "a.safetensors", "circuit_tracer"
        )


def test_our_own_files_are_not_taken_for_theirs(tmp_path):
    module = dictionaries.make("relu", d_in=D, n_latents=D, sparsity=0.1)
    params = {"W_enc_FD": np.ones((D, D), "f"), "W_dec_FD": np.ones((D, D), "f")}
    params |= {"b_enc_F": np.ones(D, "f"), "b_dec_D": np.ones(D, "f")}
    site = Site({}, ("a",), ("a",), {})
    one = Trained(module, {"params": params}, sites=(site,), name="a")
    interop.save(one, tmp_path / "a.safetensors", "safetensors")
    assert interop.load(tmp_path / "a.safetensors").sites == (site,)
    assert json.dumps(interop.load(tmp_path / "a.safetensors").name) == '"a"'
