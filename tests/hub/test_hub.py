"""Releases on the hub, against a stand-in for it (stand_in.py): what is pushed comes back, to the bit."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from dictlearn import hub, interop, normalise
from dictlearn.cli import main
from dictlearn.types import Batch
from tests.hub import stand_in
from tests.interop.test_conformance import D, same, trained

constants = pytest.importorskip("huggingface_hub.constants")


@pytest.fixture
def there(tmp_path, monkeypatch):
    """A stand-in for the hub: its folder, and what it was asked."""
    root = tmp_path / "hub"
    root.mkdir()
    with stand_in.hub(root) as (address, asked):
        monkeypatch.setattr(constants, "ENDPOINT", address)
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_TOKEN", "hf_none")
        yield root, asked


def put(one, path, format):
    path.parent.mkdir(parents=True, exist_ok=True)
    interop.save(one, path, format)


def test_what_is_pushed_comes_back_by_its_name_to_the_bit(there, tmp_path):
    one = trained("topk")
    put(one, tmp_path / "one.npz", "npz")
    address = hub.push(tmp_path / "one.npz", "me/saes")
    assert address.endswith("/me/saes")
    again = interop.load("me/saes")
    same(one, again)
    x_BD = jax.random.normal(jax.random.key(0), (8, D))
    np.testing.assert_array_equal(again.reconstruct(x_BD), one.reconstruct(x_BD))


def test_what_saelens_cannot_hold_is_written_in_our_own_format_and_the_card_says_so(
    there, tmp_path
):
    one = trained("mp")
    put(one, tmp_path / "one.npz", "npz")
    hub.push(tmp_path / "one.npz", "me/mp")
    same(one, interop.load("me/mp"))
    card = (there[0] / "me/mp/README.md").read_text()
    assert "library_name: dictlearn" in card
    assert "`mp_0.safetensors`: for dictlearn only" in card
    assert "from sae_lens" not in card


def test_the_normalisation_is_folded(there, tmp_path):
    x_BD = 9 * jax.random.normal(jax.random.key(0), (64, D))
    norm = normalise.estimate("mean_norm_sqrt_d", [Batch(x_BD, x_BD)])
    one = trained("relu", norm=norm)
    put(one, tmp_path / "one.npz", "npz")
    hub.push(tmp_path / "one.npz", "me/folded")
    again = interop.load("me/folded")
    assert again.norm == normalise.Norm()
    np.testing.assert_allclose(again.reconstruct(x_BD), one.reconstruct(x_BD), rtol=1e-5)


def test_of_a_large_repository_only_the_dictionary_that_is_named_is_downloaded(there):
    root, asked = there
    for layer in range(3):
        put(
            dataclasses.replace(trained("relu"), name=f"l{layer}"),
            root / f"me/many/l{layer}",
            "saelens",
        )
    with pytest.raises(ValueError, match=r"3 dictionaries.*me/many/l0.*l1, l2"):
        interop.load("me/many")
    assert not [line for line in asked if "/resolve/" in line]
    assert interop.load("me/many/l1").name == "l1"
    downloads = [line for line in asked if line.startswith("GET") and "/resolve/" in line]
    assert downloads
    assert all("/l1/" in line for line in downloads)


def test_one_file_among_others_is_named_by_its_path(there):
    for name in ("a", "b"):
        one = dataclasses.replace(trained("mp"), name=name)
        put(one, there[0] / f"me/files/{name}.safetensors", "safetensors")
    assert interop.load("me/files/b.safetensors").name == "b"
    with pytest.raises(ValueError, match=r"2 dictionaries.*a\.safetensors, b\.safetensors"):
        interop.load("me/files")


@pytest.mark.parametrize(
    ("name", "error"),
    [
        *(("me/none", FileNotFoundError), ("me/empty", ValueError)),
        *(("me/many/l9", ValueError), ("runs/none.npz", FileNotFoundError)),
        *(("me/many/../../x", FileNotFoundError), ("none", FileNotFoundError)),
    ],
)
def test_what_is_not_there_is_told_with_its_name(there, name, error):
    root, _ = there
    put(trained("relu"), root / "me/many/l0", "saelens")
    (root / "me/empty").mkdir()
    with pytest.raises(error, match=name.partition("/l")[0]):
        interop.load(name)


def test_without_a_network_the_error_names_the_path_and_the_reason(monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"me/saes does not exist here.*hub"):
        interop.load("me/saes")


def test_the_command_line_pushes_pulls_and_converts(there, tmp_path, capsys):
    one = trained("jumprelu")
    put(one, tmp_path / "one.npz", "npz")
    run = lambda *words: main([str(word) for word in words])
    assert run("push", tmp_path / "one.npz", "me/jump", "--out", tmp_path / "release") == 0
    assert not (there[0] / "me/jump").exists()
    assert (tmp_path / "release/jumprelu_0/cfg.json").exists()
    assert run("push", tmp_path / "one.npz", "me/jump") == 0
    assert run("pull", "me/jump", tmp_path / "pulled") == 0
    same(one, interop.load(tmp_path / "pulled/jumprelu_0"), exact=False)
    assert run("convert", "me/jump", tmp_path / "again.npz", "--to=npz") == 0
    same(one, interop.load(tmp_path / "again.npz"), exact=False)
    capsys.readouterr()
    for words in (("pull", "me/jump", tmp_path / "pulled"), ("pull", "none", tmp_path / "x")):
        assert run(*words) == 1
        assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_a_card_tells_kind_site_metrics_and_how_to_load(there, tmp_path):
    metrics = {"explained_variance": 0.75, "l0": 3.0, "dead_fraction": 0.125, "n_tokens": 4096}
    one = dataclasses.replace(trained("topk"), metrics=metrics)
    put(one, tmp_path / "one.npz", "npz")
    folder = hub.release(tmp_path / "one.npz", tmp_path / "out", "me/saes")
    card = (folder / "README.md").read_text()
    for told in (
        *(
            "library_name: saelens",
            'dictlearn.load("me/saes/topk_0")',
            "`resid.0` to `resid.1` of toy",
        ),
        *('SAE.from_pretrained("me/saes", "topk_0")', "| `topk_0` | topk | 32 |", "0.75", "12.5%"),
    ):
        assert told in card, told
    with pytest.raises(ValueError, match="not empty"):
        hub.release(tmp_path / "one.npz", tmp_path / "out", "me/saes")


def test_no_path_of_this_machine_is_in_a_release(tmp_path, run_of_one):
    folder = hub.release(run_of_one, tmp_path / "out", "me/run")
    config = json.loads((folder / "config.json").read_text())
    assert config["stream"]["path"] == "x.npy"
    for file in ("README.md", "config.json"):
        assert str(run_of_one.parent) not in (folder / file).read_text()
    assert (folder / "curves.png").stat().st_size > 4096
    found = [interop.load(folder / each.name) for each in folder.iterdir() if each.is_dir()]
    assert [each.metrics["n_tokens"] for each in found] == [128]
