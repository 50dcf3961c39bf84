"""`dictlearn circuit` writes the graph that the library makes, of a set in circuit-tracer's layout."""

import json

import numpy as np
import pytest

from dictlearn import cli, interop
from dictlearn import lm as language
from dictlearn.circuits import graph as graphs
from dictlearn.circuits.attribute import attribute
from dictlearn.cli.circuit import loaded
from tests.circuits.test_attribute import transcoders
from tests.lm import toy


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """(a model's file, a folder of a transcoder for each of its layers)."""
    folder = tmp_path_factory.mktemp("circuit")
    spec, params = toy.toy()
    fields = {"name": "relu", "sparsity": 0.1}
    own = transcoders("layer", "mlp_in", fields, layers=range(spec.n_layers))
    interop.save_all([one.folded() for one in own], folder / "set", "circuit_tracer")
    return toy.write_gguf(folder / "toy.gguf", spec, params), folder / "set"


def test_it_writes_the_graph_of_a_set(given, tmp_path, capsys):
    model, folder = given
    words = ["--prompt=the cat", f"--dictionaries={folder}", f"--out={tmp_path}", "--n_logits=3"]
    status = cli.main(["circuit", *words, f"--model={model}", "--targets=a,b"])
    printed = capsys.readouterr()
    assert status == 0, printed.err
    assert "replacement" in printed.out
    found = graphs.load(tmp_path / "the-cat.graph")
    assert [one.text for one in found.logits] == ["a", "b"]
    lm = language.load("toy", path=str(model))
    wanted = attribute(lm, loaded(str(folder)), "the cat", chosen=["a", "b"])
    np.testing.assert_allclose(found.edges_MM, wanted.edges_MM, atol=1e-5)
    assert len(found.values_N) > 10
    assert json.loads((tmp_path / "the-cat.json").read_text())["metadata"]["slug"] == "the-cat"


def test_what_it_cannot_do_is_one_line(given, tmp_path, capsys):
    model, folder = given
    for words, told in (
        ([f"--dictionaries={tmp_path}"], "error"),
        ([f"--dictionaries={folder}", "--targets=the cat sat"], "tokens"),
        ([f"--dictionaries={folder}", "--slug=a/b"], "slug"),
    ):
        asked = ["circuit", "--prompt=the", f"--model={model}", f"--out={tmp_path / 'out'}", *words]
        assert cli.main(asked) == 1
        assert told in capsys.readouterr().err
