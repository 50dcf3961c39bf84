"""The Python of the README and of the docs is run unchanged; the README stays short."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import dictlearn
from dictlearn import cli, dictionaries

ROOT = Path(__file__).parents[1]


def run_blocks(file: str) -> list[dict]:
    """The names that are defined after each block of Python in a page, in order."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / file).read_text(), re.DOTALL)
    names, after = {}, []
    for block in blocks:
        exec(block, names)
        after.append(dict(names))
    return after


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A small run in runs/mine."""
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.random.default_rng(0).normal(size=(2000, 64)).astype(np.float32))
    config = f"--config={ROOT / 'experiments' / 'from_npy.py'}:smoke,x.npy"
    assert cli.main(["train", config, "--workdir=runs/mine"]) == 0


def test_every_python_block_of_the_readme_runs(mine, capsys):
    *_, names = after = run_blocks("README.md")
    assert len(after) == 3
    assert names["y"].shape == (1024, 64)
    assert float(names["info"]["explained_variance"]) > 0.1
    said = capsys.readouterr().out
    assert "topk_n128_0" in said
    assert " Paris" in said


def test_a_dictionary_trains_inside_an_nnx_model_and_a_trained_one_is_the_same_there(mine):
    fresh, names = run_blocks("docs/nnx.md")
    assert fresh["losses"][-1] < 0.5 * fresh["losses"][0]
    network, trained = names["network"], names["trained"]
    h = nnx.relu(network.first(names["x"]))
    np.testing.assert_allclose(network.sae.encode(h).val, trained.encode(h).val, atol=1e-4)
    reconstructed = network.sae.reconstruct(h)[0]
    unfolded = dictlearn.restore("runs/mine")[0]
    np.testing.assert_allclose(reconstructed, unfolded.reconstruct(h), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(names["out"], network.second(reconstructed), rtol=1e-5, atol=1e-5)


def test_the_training_call_inside_an_nnx_module_moves_its_statistics():
    module = dictionaries.make("batch_topk", d_in=8, n_latents=32, k=2)
    x, dead = jax.random.normal(jax.random.key(0), (64, 8)), jnp.zeros(32, bool)
    variables = module.init(jax.random.key(1), x, dead)
    sae = nnx.bridge.ToNNX(module, rngs=nnx.Rngs(0)).lazy_init(x, dead)
    nnx.update(sae, {**variables["params"], **variables["stats"]})
    out, wanted = module.apply(variables, x, dead, mutable=["stats"])
    found = sae(x, dead, mutable=["stats"])
    np.testing.assert_allclose(found.y_BD, out.y_BD, rtol=1e-6)
    for name, value in wanted["stats"].items():
        assert value != variables["stats"][name]
        np.testing.assert_allclose(getattr(sae, name)[...], value, rtol=1e-6)


def sentences(text):
    """The sentences of a Markdown page, without code, tables and the addresses of links."""
    text = re.sub(r"```.*?```|^\|.*$", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    for paragraph in re.split(r"\n\s*\n|\n[-#]|\n\d+\. ", text):
        yield from re.split(r"(?<=[.!?:;])\s+", paragraph)


def test_the_readme_is_short_and_so_are_its_sentences():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) < 200
    assert not [one for one in sentences(text) if len(re.findall(r"\S*\w\S*", one)) > 30]
    assert [one for one in sentences("word " * 31) if len(re.findall(r"\S*\w\S*", one)) > 30]


def test_every_dictionary_is_in_the_list():
    for page in ("README.md", "docs/dictionaries.md"):
        text = (ROOT / page).read_text()
        assert not [name for name in dictionaries.names() if f"`{name}`" not in text]
