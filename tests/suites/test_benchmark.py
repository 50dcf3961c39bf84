"""A benchmark goes on where it stopped, says what did not run and on what data, and ranks as it should."""

import json
import re
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from dictlearn import analyses, cli, dictionaries, interop, suites
from dictlearn.analyses import _core, _probing, _unlearning, absorption, ravel
from dictlearn.runs.trained import Site, Trained
from dictlearn.suites import Evaluation, Metric, Suite, _cells
from tests.report.conftest import model, spoken

__all__ = ["model", "spoken"]
PLANTED = {"planted": {"n": 30, "classes": 3}}
QUICK = {"tasks": PLANTED, "n_train": 40, "n_test": 16, "splits": 1}
SUITE = Suite(
    "Two evaluations.",
    (
        Evaluation(
            "sparse_probing", QUICK, "made up", (Metric("sae_top_1_test_accuracy", "probes of 1"),)
        ),
        Evaluation(
            "tpp",
            {**QUICK, "ns": (2,)},
            "made up",
            (Metric("tpp_threshold_2_total_metric", "TPP"),),
        ),
    ),
)
SCHEMA = (
    *("eval_type_id", "eval_config", "eval_id", "datetime_epoch_millis", "eval_result_metrics"),
    *("eval_result_details", "eval_result_unstructured", "sae_bench_commit_hash", "sae_lens_id"),
    *("sae_lens_release_id", "sae_lens_version", "sae_cfg_dict"),
)
KEYS = {
    "core": _core.KEYS,
    "sparse_probing": [f"sae_{key}" for key in _probing.How((1, 2, 5), 1, True, 0).keys],
    "scr": [f"scr_metric_threshold_{n}" for n in analyses.settings("scr")["ns"]],
    "tpp": [f"tpp_threshold_{n}_total_metric" for n in analyses.settings("tpp")["ns"]],
    "absorption": absorption.KEYS,
    "unlearning": _unlearning.KEYS,
    "ravel": ravel.KEYS,
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two dictionaries that were not trained."""
    folder = tmp_path_factory.mktemp("files")
    for name, k in (("narrow", 2), ("wide", 5)):
        module = dictionaries.make("topk", d_in=12, n_latents=32, k=k)
        site = Site({}, ("resid.1",), ("resid.1",), {})
        own = Trained(module, module.init(jax.random.key(k), method="declare"), sites=(site,))
        interop.save(own, folder / f"{name}.npz", "npz")
    return [folder / "narrow.npz", folder / "wide.npz"]


@pytest.fixture(scope="module")
def asked(files, model, tmp_path_factory):
    entries = suites.entries(files, model["path"])
    return suites.Benchmark(SUITE, entries, [0, 1], tmp_path_factory.mktemp("bench"))


def records(folder):
    found = {}
    for path in sorted((folder / "cells").rglob("*.json")):
        record = json.loads(path.read_text())
        record.pop("datetime_epoch_millis"), record["cell"].pop("seconds")
        found[path.name + path.parent.name] = record
    return found


def test_every_suite_asks_what_there_is():
    for name in suites.names():
        suite = suites.make(name)
        analyses.check({one.analysis: one.settings for one in suite.evaluations})
        for one in suite.evaluations:
            assert one.data
            assert {metric.key for metric in one.metrics} <= set(KEYS[one.analysis])
            assert not {"seed", "model", "tap"} & one.settings.keys()


def test_it_goes_on_where_it_was_killed_and_dictionaries_do_not_see_each_other(
    asked, tmp_path, monkeypatch
):
    whole, run, done = asked._replace(folder=tmp_path / "whole"), analyses.run, []
    with monkeypatch.context() as patch:
        patch.setattr(_cells, "_TOGETHER", 1)
        patch.setattr(_cells, "_LATENTS", 1)
        assert suites.run(whole) == {}
    cells = records(whole.folder)
    assert len(cells) == 8

    def counted(name, subjects, **settings):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(name)
        return run(name, subjects, **settings)

    monkeypatch.setattr(analyses, "run", counted)
    with pytest.raises(KeyboardInterrupt):
        suites.run(asked)
    assert len(records(asked.folder)) == 6
    assert done == ["sparse_probing", "sparse_probing", "tpp"]
    monkeypatch.setattr(
        analyses, "run", lambda *args, **more: done.append("") or run(*args, **more)
    )
    assert suites.run(asked) == {}
    assert len(done) == 4
    assert records(asked.folder) == cells
    # A damaged cell, and those of other settings, are computed again; nothing else is.
    damaged = next((asked.folder / "cells").rglob("*.json"))
    damaged.write_text("{")
    suites.run(asked)
    assert len(done) == 5
    other = suites.changed(SUITE, ["tpp"], {"tpp": {"ns": (3,)}})
    suites.run(asked._replace(suite=other))
    assert len(done) == 7


def test_a_cell_has_saebenchs_schema_and_the_values_of_the_analysis(asked, model):
    suites.run(asked)
    (entry, *_) = asked.entries
    record = json.loads(asked.path(SUITE.evaluations[0], entry, 1).read_text())
    assert set(SCHEMA) <= record.keys()
    found = analyses.run("sparse_probing", [entry.subject], model=model["path"], seed=1, **QUICK)
    (own,) = found.values["dictionaries"].values()
    assert record["eval_result_metrics"] == own["eval_result_metrics"]
    assert record["sae_cfg_dict"]["k"] == 2
    assert record["eval_config"]["seed"] == 1


def test_the_table_has_means_intervals_and_baselines(asked):
    suites.run(asked)
    found = suites.summary(asked, {})
    narrow, wide, *others = found.rows
    assert (narrow.name, wide.name) == ("narrow", "wide")
    key = "sae_top_1_test_accuracy"
    cells = [
        json.loads(path.read_text()) for path in (asked.folder / "cells").rglob("narrow*.json")
    ]
    own = [c["eval_result_metrics"]["sae"][key] for c in cells if c["eval_type_id"] != "tpp"]
    assert narrow.mean[key] == pytest.approx(np.mean(own))
    assert (narrow.seeds, narrow.draws) == (1, 2)
    assert narrow.half[key] == pytest.approx(12.706 * abs(own[0] - own[1]) / 2, rel=1e-3)
    assert narrow.l0["tpp"] == pytest.approx(2, abs=0.1)
    assert [row.kind for row in others] == ["llm", "pca", "random", "random"]
    assert others[0].mean[key] is not None
    # The channels are those of a draw, whatever dictionary is beside them.
    assert {(row.seeds, row.draws) for row in others} == {(0, 2)}
    assert found.data["tpp"]["cells"] == "4 of 4"


def test_a_line_joins_the_dictionaries_of_one_member(spoken, files, model, monkeypatch):
    assert {entry.line for entry in suites.entries([spoken])} == {spoken.name}
    (name,) = (entry.dictionary.name for entry in suites.entries([spoken]))
    members, settings = [("topk", "topk", []), ("gba", "gba, k 2", [name])], _cells.settings
    monkeypatch.setattr(
        _cells, "settings", lambda whole: settings(whole) if whole.run is None else members
    )
    lines = lambda *paths: {
        entry.setting: entry.line for entry in suites.entries(paths, model["path"])
    }
    assert lines(spoken) == {"gba, k 2": "gba"}
    assert lines(spoken, files[0]) == {
        f"{spoken.name}: gba, k 2": f"{spoken.name}: gba",
        "narrow": "narrow",
    }


def test_an_evaluation_without_data_is_said_and_the_others_run(asked, tmp_path):
    missing = suites.changed(SUITE, None, {"sparse_probing": {"tasks": "/no/where.jsonl"}})
    broken = asked._replace(suite=missing, folder=tmp_path, seeds=[0])
    failed = suites.run(broken)
    assert failed.keys() == {"sparse_probing"}
    found = suites.summary(broken, failed)
    assert "where.jsonl" in found.data["sparse_probing"]["not_run"]
    assert found.rows[0].mean["sae_top_1_test_accuracy"] is None
    assert found.data["tpp"]["cells"] == "2 of 2"
    assert found.ranks.keys() == {"tpp_threshold_2_total_metric", "mean"}


def test_baselines_are_those_of_the_cells():
    """One that is of all dictionaries in one evaluation, and beside each in another, is a row of each."""

    def cell(name, **kinds):
        rows = {
            kind: {"dictionaries": [name] * beside, "score": score, "l0": None}
            for kind, (beside, score) in kinds.items()
        }
        entry = SimpleNamespace(setting=name, key=name)
        return entry, {"baselines": rows, "cell": {"of": {"settings": {"seed": 0}}}}

    cells = {
        "one": [cell("a", llm=(0, 0.2), mdas=(0, 0.4)), cell("b", llm=(0, 0.4), mdas=(0, 0.4))],
        "two": [cell("a", llm=(1, 0.1)), cell("b", llm=(1, 0.3))],
    }
    metrics = [("one", Metric("score", "score")), ("two", Metric("sae_score", "score"))]
    found = suites._summary._baselines(cells, ["a", "b"], metrics)
    assert {row.name: (row.mean["score"], row.mean["sae_score"]) for row in found} == {
        "residual channels": (pytest.approx(0.3), None),
        "learned rotation": (0.4, None),
        "residual channels for a": (None, 0.1),
        "residual channels for b": (None, 0.3),
    }


def test_ranks_and_their_intervals():
    up, down = Metric("up", "up"), Metric("down", "down", -1)
    rows = lambda **of: {key: np.array(values) for key, values in of.items()}
    values = {
        "best": rows(up=[[0.9], [0.91]], down=[[0.1, 0.12]]),
        "worst": rows(up=[[0.1], [0.12]], down=[[0.9, 0.91]]),
        "torn": rows(up=[[0.5], [0.95]], down=[[0.5, 0.5]]),
    }
    found = suites._summary.ranks(values, [up, down])
    assert {name: rank[0] for name, rank in found["up"].items()} == {
        "best": 1,
        "torn": 2,
        "worst": 3,
    }
    assert found["down"]["best"] == (1, 1, 1)
    assert found["up"]["torn"][1:] == (1, 2)
    assert found["mean"]["worst"] == (3, 3, 3)
    alone = {name: {key: one[:1, :1] for key, one in each.items()} for name, each in values.items()}
    assert suites._summary.ranks(alone, [up])["up"]["best"] == (1, None, None)
    one = suites._summary.ranks({**values, "worst": alone["worst"]}, [up])["up"]
    assert (one["worst"], one["torn"]) == ((3, None, None), (2, 1, 2))
    # Draws are of all rows: what they share does not part them.
    shared = {name: {"up": np.array([[0.1, 0.9]]) + more} for name, more in (("a", 0), ("b", 0.1))}
    assert suites._summary.ranks(shared, [up])["up"]["b"] == (1, 1, 1)
    # A number that a cell does not have is not ranked.
    gone = {**shared, "c": {"up": np.array([[0.1, np.nan]])}}
    assert suites._summary.ranks(gone, [up]) == {}


@pytest.mark.parametrize(
    ("value_DS", "half"),
    [
        ([[0.1, 0.3], [0.5, 0.7]], 12.706 * 0.2),
        ([[0.1, 0.7], [0.3, 0.9]], 12.706 * 0.3),
        ([[0.5, 0.5], [0.7, 0.7]], 12.706 * 0.1),
        ([[0.4, np.nan], [0.8, 0.8]], 12.706 * 0.2),
        ([[0.5, 0.5, 0.5]], None),
        ([[0.5]], None),
    ],
)
def test_an_interval_is_the_wider_one_over_dictionaries_or_draws(value_DS, half):
    """All values as one sample, of which draws that do not differ are a part, would have a narrower one."""
    found = suites._summary._interval(np.array(value_DS))
    assert found == (pytest.approx(np.nanmean(value_DS)), half and pytest.approx(half, rel=1e-3))


def test_the_command_line_writes_a_page(spoken, files, model, tmp_path, capsys):
    words = [f"--dictionary={spoken}", f"--dictionary={files[0]}", f"--model={model['path']}"]
    quick = [
        "--evaluations=tpp",
        "--seeds=0",
        f"--out={tmp_path}",
        f"--setting=tpp.tasks={PLANTED}",
    ]
    sizes = ["--setting=tpp.n_train=40", "--setting=tpp.n_test=16"]
    given = ["benchmark", "--suite=packaged", *words, *quick, *sizes]
    assert cli.main(given) == 0, capsys.readouterr()
    assert "TPP 20" in capsys.readouterr().out
    page = (tmp_path / "benchmark.html").read_text()
    assert "planted: " in page
    assert "topk" in page
    assert "<svg" in page
    assert not re.search(r'(src|href)="http', page)
    rows = json.loads((tmp_path / "benchmark.json").read_text())["rows"]
    assert [row["kind"] for row in rows] == ["sae", "sae", "llm", "pca", "random", "random"]
    wrong = [*given[:-2], "--setting=tpp.tasks=/no/where.jsonl"]
    assert cli.main(wrong) == 1
    assert "not every evaluation ran: tpp" in capsys.readouterr().err
    assert "not run" in (tmp_path / "benchmark.html").read_text()


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (["--suite=mine"], "there are packaged, saebench"),
        (["--evaluations=magic"], "no 'magic'"),
        (["--setting=tpp"], "NAME.KEY=VALUE"),
        (["--setting=tpp.magic=1"], "no 'magic'"),
        (["--seeds=one"], "'one'"),
    ],
)
def test_a_wrong_command_is_answered_with_what_there_is(bad, told, capsys):
    given = ["--suite=packaged", "--dictionary=/no/where", *bad]
    assert cli.main(["benchmark", *given]) == 1
    assert told in capsys.readouterr().err


def test_dictionaries_that_cannot_be_told_apart_are_refused(files, model):
    with pytest.raises(ValueError, match="two dictionaries are called"):
        suites.entries([files[0], files[0]], model["path"])
    with pytest.raises(ValueError, match="give --model"):
        suites.entries([files[0]])
