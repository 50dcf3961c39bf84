"""The latent cache: every code that fires, at its token, in files as delphi reads them."""

import dataclasses
import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from dictlearn import cli, dense, events, interop
from dictlearn import lm as language
from dictlearn.interop import _latent_cache as latent_cache
from tests.interop.test_conformance import trained
from tests.lm import toy

D, F, T = 16, 32, 8
TAP = "resid.0"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A toy model, a text, and a dictionary of the toy's width."""
    home = tmp_path_factory.mktemp("home")
    toy.model_and_text(home)
    return home


@pytest.fixture(scope="module")
def lm(home):
    return language.load("toy", str(home / "toy.gguf"))


def read(folder):
    """(tokens, codes [S, T, F]) of a cache, from its files alone."""
    found = [(path, load_file(path)) for path in folder.glob("*.safetensors")]
    tokens_ST = found[0][1]["tokens"]
    codes_STF = np.zeros((*tokens_ST.shape, F), np.float32)
    for path, arrays in found:
        start, end = map(int, path.stem.split("_"))
        s, t, f = arrays["locations"].astype(int).T
        assert f.max(initial=0) <= end - start
        assert arrays["locations"].dtype == np.uint16
        codes_STF[s, t, f + start] = arrays["activations"]
        np.testing.assert_array_equal(arrays["tokens"], tokens_ST)
    return tokens_ST, codes_STF


def gathered(one, lm, **text):
    return events.gather(events.job(one, events.of_text(lm, (TAP,), **text)))


def test_the_files_hold_every_code_at_its_token(home, lm):
    one = trained("topk", d_in=lm.spec.d_model)
    folder = home / "latents" / TAP
    text = {"text": home / "text.jsonl", "sequence_length": T, "lm_batch": 4}
    latent_cache.write(gathered(one, lm, **text), folder, splits=3)
    assert sorted(path.name for path in folder.iterdir()) == [
        *("0_9.safetensors", "10_20.safetensors", "21_31.safetensors", "config.json")
    ]
    tokens_ST, codes_STF = read(folder)
    whole, _ = language.sequences(text["text"], lm.tokenizer, T, lm.separator, held_out=0.0)
    np.testing.assert_array_equal(tokens_ST, whole.tokens_ST)
    x_STD = np.asarray(lm.forward(lm.params, tokens_ST)[1][TAP])
    wanted = np.asarray(dense(one.encode(x_STD.reshape(-1, x_STD.shape[-1])), F))
    wanted = wanted.reshape(codes_STF.shape) * whole.mask_ST[:, :, None]
    np.testing.assert_allclose(codes_STF, wanted, rtol=2e-3, atol=1e-4)
    assert (codes_STF != 0).sum() == (wanted > 1e-5).sum() > 0
    told = json.loads((folder / "config.json").read_text())
    assert (told["cache_ctx_len"], told["n_splits"], told["model_name"]) == (T, 3, "toy")


def test_codes_beyond_float16_and_latents_that_never_fire(home, lm):
    one = trained("relu", d_in=lm.spec.d_model)
    params = one.variables["params"]
    b_enc = np.where(np.arange(F) < 16, 1e5, -1e5).astype("f4")
    one = dataclasses.replace(one, variables={"params": {**params, "b_enc_F": b_enc}})
    folder = home / "large" / TAP
    text = {"text": home / "text.jsonl", "sequence_length": T}
    latent_cache.write(gathered(one, lm, **text), folder, splits=2)
    kinds = {path.name: load_file(path)["activations"] for path in folder.glob("*.safetensors")}
    assert kinds["0_15.safetensors"].min() > 9e4
    assert kinds["16_31.safetensors"].shape == (0,)


def test_the_command_takes_a_dictionary_of_any_format(home, lm, capsys):
    interop.save(trained("relu", d_in=lm.spec.d_model), home / "one.npz", "npz")
    words = [f"--dictionary={home / 'one.npz'}", f"--model={home / 'toy.gguf'}", f"--tap={TAP}"]
    words += [f"--text={home / 'text.jsonl'}", "--length=8", f"--workdir={home / 'out'}"]
    assert cli.main(["latents", *words, "--splits=1", "--n_tokens=20"]) == 0
    assert read(home / "out" / "latents" / TAP)[0].size == 24
    assert cli.main(["latents", *words, "--splits=99"]) == 1
    assert "splits=99" in capsys.readouterr().err
