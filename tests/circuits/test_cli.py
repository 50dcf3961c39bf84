"""`dictlearn circuit` writes the graphs that the library makes, of a set in circuit-tracer's layout."""

import json
import re

import numpy as np
import pytest

from dictlearn import cli, events, interop
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


@pytest.fixture(scope="module")
def workdir(given, tmp_path_factory):
    """A folder with explanations of every latent of layer 0, and its events on 64 rows."""
    folder, one = tmp_path_factory.mktemp("known"), loaded(str(given[1]))[0]
    lines = [{"latent": i, "text": f"label {i}", "score": 0.5} for i in range(one.module.n_latents)]
    (folder / "explanations").mkdir()
    path = folder / "explanations" / f"{one.name}.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    rng, at = np.random.default_rng(0), np.arange(64)
    rows = {"mlp_in.0": rng.normal(size=(64, one.module.d_in)).astype(np.float32)}
    rows |= {"sequence_R": at // 16, "position_R": at % 16}
    text = rng.integers(0, 20, (4, 16)), np.ones((4, 16), bool)
    found = events.Rows(("mlp_in.0",), *text, 1, {}, lambda chosen: iter([(0, rows, at)]))
    events.write(events.job(one, found), folder / "events" / one.name)
    return folder


def test_several_prompts_are_one_page_with_what_is_known_of_their_latents(
    given, workdir, tmp_path, capsys
):
    model, folder = given
    words = [*("--prompt=the cat", "--prompt=the, cat"), f"--dictionaries={folder}", "--n_logits=2"]
    words += [f"--out={tmp_path}", f"--model={model}", f"--workdirs={workdir}"]
    assert cli.main(["circuit", *words, "--node_threshold=1"]) == 0, capsys.readouterr().err
    text = (tmp_path / "the-cat.html").read_text("utf-8")
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])
    assert [one["name"] for one in data["graphs"]] == ["the-cat", "the-cat-2"]
    first = {tuple(map(int, key.split("."))): one for key, one in data["about"].items()}
    assert {layer for layer, _ in first} >= {0, 1}
    for (layer, latent), one in first.items():
        assert len(one["raises"]) == 5
        assert one.get("label") == (f"label {latent}" if layer == 0 else None)
        assert ("windows" in one) == (layer == 0)
    cache = events.read(next((workdir / "events").iterdir()))
    fired = {latent: one for (layer, latent), one in first.items() if layer == 0}
    assert any(one["windows"] for one in fired.values())
    for latent, one in fired.items():
        largest = np.abs(cache.of(latent)[1]).max(initial=0.0)
        assert one["largest"] == pytest.approx(largest)
        shown = [window["fires"][str(window["peak"])] for window in one["windows"]]
        assert shown[:1] == pytest.approx([largest] * bool(largest), rel=1e-3)
    labels = json.loads((tmp_path / "the-cat-2.json").read_text())["nodes"]
    assert {n["clerp"][:5] for n in labels if n["layer"] == "0" and n["feature"] >= 0} == {"label"}


def test_what_it_cannot_do_is_one_line(given, tmp_path, capsys):
    model, folder = given
    for words, told in (
        ([f"--dictionaries={tmp_path}"], "error"),
        ([f"--dictionaries={folder}", "--targets=the cat sat"], "tokens"),
        ([f"--dictionaries={folder}", "--slug=a/b"], "slug"),
        ([f"--dictionaries={folder}", "--workdirs=a,b"], "2 folders for 1 paths"),
    ):
        asked = ["circuit", "--prompt=the", f"--model={model}", f"--out={tmp_path / 'out'}", *words]
        assert cli.main(asked) == 1
        assert told in capsys.readouterr().err
