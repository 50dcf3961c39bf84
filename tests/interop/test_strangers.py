"""Files from anybody: what is wrong is told by its name, no code runs, and nothing is written elsewhere."""

import json

import numpy as np
import pytest

from dictlearn import dictionaries, interop
from dictlearn.runs.trained import Trained

D, F = 6, 8
RNG = np.random.default_rng(0)
draw = lambda *shape: RNG.normal(size=shape).astype(np.float32)


def relu(**fields) -> Trained:
    module = dictionaries.make("relu", d_in=D, n_latents=F, sparsity=0.1, **fields)
    params = {
        "W_enc_FD": draw(F, D),
        "b_enc_F": draw(F),
        "W_dec_FD": draw(F, D),
        "b_dec_D": draw(D),
    }
    return Trained(module, {"params": params}, name="mine")


def altered(path, header=(), drop=(), **arrays):
    """An archive of a ReLU dictionary with some of it replaced."""
    interop.save(relu(), path, "npz")
    with np.load(path) as found:
        kept = {name: found[name] for name in found.files if name not in drop}
    told = json.loads(str(kept["header"])) | dict(header)
    np.savez(path, **(kept | {"header": np.array(json.dumps(told))} | arrays))
    return path


def test_the_simple_arrays_are_the_function(tmp_path):
    one, x = relu(), draw(5, D)
    interop.save(one, tmp_path / "one.npz", "npz")
    with np.load(tmp_path / "one.npz", allow_pickle=False) as f:
        assert f["W_enc"].shape == (D, F)
        codes = np.maximum((x - f["b_dec"]) @ f["W_enc"] + f["b_enc"], 0)
        np.testing.assert_allclose(codes @ f["W_dec"] + f["b_dec"], one.reconstruct(x), atol=1e-5)


def test_a_dictionary_of_more_than_an_encoder_and_a_decoder_has_no_simple_arrays(tmp_path):
    module = dictionaries.make("psd", d_in=D, n_latents=F, sparsity=0.1)
    params = {**relu().variables["params"], "gain_F": draw(F)}
    interop.save(Trained(module, {"params": params}), tmp_path / "one.npz", "npz")
    with np.load(tmp_path / "one.npz") as f:
        assert "W_enc" not in f
        assert "params/gain_F" in f


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"W_enc": draw(F, D)}, r"W_enc is float32\[8, 6\], not float32\[6, 8\]"),
        ({"b_enc": np.zeros(F)}, r"b_enc is float64\[8\], not float32\[8\]"),
        ({"b_dec": np.array([{}] * D)}, r"b_dec is object\[6\], not float32\[6\]"),
        ({"b_mag": draw(F)}, r"holds b_mag, .*W_dec, W_enc, b_dec, b_enc"),
        ({"drop": ("b_dec",)}, r"lacks b_dec"),
        ({"drop": ("norm/scale_in",)}, r"lacks norm/scale_in"),
        ({"norm/scale_in": np.float32(-1)}, r"scale_in=-1\.0"),
        ({"header": {"version": 9}}, r"version 9"),
        ({"header": {"code": "import os"}}, r"header holds code"),
        ({"header": {"name": "../../mine"}}, r"\.\./\.\./mine"),
        ({"header": {"normalisation": "unit"}}, r"'unit'.*unit_mean_sq"),
        ({"header": {"dictionary": {"name": "os"}}}, r"'os'.*topk"),
        ({"header": {"dictionary": {"name": "../evil"}}}, r"'\.\./evil'.*topk"),
        ({"header": {"dictionary": {"name": "relu", "d_in": "wide"}}}, r"describes no dictionary"),
        ({"header": {"dictionary": {"name": "relu", "kk": 3}}}, r"'kk'.*n_latents"),
        ({"header": {"dictionary": None}}, r"describes no dictionary"),
    ],
)
def test_what_is_wrong_is_named(change, message, tmp_path):
    path = altered(tmp_path / "one.npz", **change)
    with pytest.raises(ValueError, match=r"one\.npz .*npz.*: .*" + message):
        interop.load(path)


def test_an_archive_with_pickles_runs_nothing(tmp_path):
    class Evil:
        def __reduce__(self):
            return (exec, ("raise SystemExit('it ran')",))

    path = tmp_path / "one.npz"
    np.savez(path, header=np.array([Evil()], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        interop.load(path)


def test_a_module_of_no_room_is_refused(tmp_path):
    module = relu().module

    class Mine(type(module)):
        pass

    fields = {name: value for name, value in vars(module).items() if name in module.__annotations__}
    one = Trained(Mine(**fields), relu().variables)
    for format in interop.names():
        with pytest.raises(ValueError, match="Mine"):
            interop.save(one, tmp_path / "one", format)
    assert not list(tmp_path.iterdir())
