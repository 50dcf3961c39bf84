"""Files and folders of a config, kept so that a run can be moved."""

import json

import pytest

from dictlearn.experiment.values import to_json
from dictlearn.runs.places import found, is_place, kept, read_config, same, write_config


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A workdir with a folder in it, beside an array; seen from the folder that holds both."""
    (tmp_path / "run" / "activations").mkdir(parents=True)
    (tmp_path / "x.npy").touch()
    (tmp_path / "link").symlink_to("run")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "run"


@pytest.mark.parametrize("place", ["run/activations", "{}/run/activations/", "link/activations"])
@pytest.mark.parametrize("workdir", ["run", "run/", "./link", "{}/run", "run/../run"])
def test_what_lies_in_a_run_moves_with_it_however_both_are_spelt(place, workdir, run):
    spell = lambda text: text.format(run.parent)
    config = {"stream": {"path": spell(place), "paths": [spell(place), "x.npy"]}}
    write_config(config, run.parent / spell(workdir))
    run.rename(run.parent / "moved")
    inside = str(run.parent / "moved" / "activations")
    assert read_config(run.parent / "moved") == {
        "stream": {"path": inside, "paths": (inside, "x.npy")}
    }
    said = json.loads((run.parent / "moved" / "config.json").read_text())
    assert said["stream"]["path"] == "{workdir}/activations"


@pytest.mark.parametrize(
    "config",
    [
        {"stream": {"path": "x.npy"}},
        {"stream": {"path": "/nowhere/x.npy"}},
        {"harvest": {"text": "wiki", "taps": ("run/activations",)}, "steps": 3},
        {"dictionary": {"name": "run/activations"}, "model": {"path": None}},
        {"model": {"path": "run"}},
        {"stream": {"path": "run-2"}},
        {"start": {"workdir": "run\\\\1"}},
    ],
)
def test_all_else_is_kept_as_it_was_given(config, run):
    (run.parent / "run-2").mkdir()
    assert kept(config, run) == to_json(config)
    assert found(kept(config, run), run.parent / "moved") == config


def test_a_workdir_that_one_stands_in_changes_no_words(run, monkeypatch):
    monkeypatch.chdir(run)
    config = {"dictionary": {"name": "activations"}, "stream": {"path": "activations"}}
    there = found(kept(config, run.relative_to(run)), run)
    assert there == {**config, "stream": {"path": str(run / "activations")}}


def test_the_same_place_is_the_same_however_it_is_spelt(run):
    spelt = ["run", "run/", "./run", "link", str(run), str(run.parent / "link"), "run/../run"]
    assert all(same(a, b) for a in spelt for b in spelt)
    assert not any(same("run", other) for other in ("x.npy", "run/activations", None, "../run", 3))
    assert same(None, None)


def test_places_are_known_by_their_keys():
    places = [
        "path",
        "stream.path",
        "stream.paths",
        "stream.target_path",
        "harvest.text",
        "start.workdir",
    ]
    others = [
        "stream.tap",
        "pathology",
        "stream.path.x",
        "context",
        "harvest.text_column",
        "dictionary.name",
    ]
    assert list(map(is_place, places)) == [True] * len(places)
    assert list(map(is_place, others)) == [False] * len(others)
