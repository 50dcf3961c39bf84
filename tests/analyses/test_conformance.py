"""Conformance of every analysis. A new file in the folder is tested on a small run of four dictionaries; an
analysis that needs other subjects has an entry in SUBJECTS."""

import csv
import inspect
import json
import shutil
from xml.etree import ElementTree

import numpy as np
import pytest

from dictlearn import analyses, cli, report
from dictlearn.analyses import (
    Result,
    Subject,
    _subject,
    discrete_circuit,
    feature_circuit,
    ioi,
    ioi_attributions,
    meta_structure,
)
from dictlearn.evaluate import evaluate
from dictlearn.experiment.stream import open_stream
from dictlearn.explanations.clients import local
from dictlearn.lm import text_wiki
from dictlearn.runs.places import read_config
from dictlearn.runs.trained import restore
from dictlearn.runs.workdir import read_json, write_json
from dictlearn.tasks import (
    Task,
    agreement,
    cities,
    first_letters,
    ioi_prompts,
    othello,
    planted_questions,
)
from dictlearn.train import train
from tests.explanations.fake import Fake
from tests.helpers import planted_config

NAMES = analyses.names()
every = pytest.mark.parametrize("name", NAMES)
ORDERED = ("similarity", "tracking")
"""Analyses whose answer is about the order of their subjects."""
PAIR, SERIES, ARRAY, SPOKEN, EXPLAINED = "pair", "series", "array", "spoken", "explained"
MLPS = "mlps"
SUBJECTS = {
    "similarity": PAIR,
    "tracking": SERIES,
    "layer_groups": SPOKEN,
    "feature_circuit": SPOKEN,
    "gradient_choice": SPOKEN,
    "graph_validity": MLPS,
    "ioi_attributions": MLPS,
    "replacement": SPOKEN,
    "retrieval": ARRAY,
    "probe_loss": ARRAY,
    "plausibility": ARRAY,
    "error_probes": ARRAY,
    "ablation_sparsity": SPOKEN,
    "examples": SPOKEN,
    "explain": SPOKEN,
    "n2g": SPOKEN,
    "score": EXPLAINED,
    "sparse_probing": SPOKEN,
    "tpp": SPOKEN,
    "scr": SPOKEN,
    "shift": SPOKEN,
    "core": SPOKEN,
    "absorption": SPOKEN,
    "steer": SPOKEN,
    "unlearning": SPOKEN,
    "ravel": SPOKEN,
    "ioi": SPOKEN,
    "discrete_circuit": SPOKEN,
    "board_games": SPOKEN,
}
BAD = "no_such_setting"
FEW_HEADS = {
    **{"given": {"n_names": 2, "negatives": True}, "sizes": (2,), "n": 4, "n_test": 4},
    **{"epochs": 20, "draws": 1, "splits": 2},
}
"""Settings of `discrete_circuit` for a model of few heads."""
FEW = {"structures": ("simple",), "given": {"n": 8}, "sizes": (3,), "at": 10, "most": 3}
FEW |= {"n_effects": 2, "n_test": 2, "draws": 2}
"""Settings of `feature_circuit` for nouns of one length in bytes."""
FEW_LATENTS = {"splits": 2, "most": 16, "n_checked": 4}
"""Settings of `ioi_attributions` for a small model."""
NAMES_OF_FOUR = ("Mary", "John", "Paul", "Anna", "Kate", "Rose", "Eric", "Dave")
"""Names of as many bytes, whose prompts share compiled programs."""


def finished(config, path):
    train(config, path)
    evaluate(config, path)
    write_json(path / "timing.json", {"train_seconds": 1.0, "tokens_per_second": 1000.0})
    return path


@pytest.fixture(scope="session")
def planted_run(tmp_path_factory):
    """Two values of k and two seeds on planted data."""
    sweep = {"k": (2, 3), "seed": (0, 1)}
    config = planted_config(steps=20, sweep=sweep, evaluate={"n_tokens": 512})
    return finished(config, tmp_path_factory.mktemp("planted_run") / "a")


@pytest.fixture(scope="session")
def single(tmp_path_factory):
    """One dictionary."""
    config = planted_config(steps=20, evaluate={"n_tokens": 512})
    return finished(config, tmp_path_factory.mktemp("single") / "b")


@pytest.fixture(scope="session")
def array_run(tmp_path_factory):
    """Two dictionaries on an array whose rows have labels."""
    folder, random = tmp_path_factory.mktemp("array"), np.random.default_rng(0)
    kind = np.arange(400) % 4
    np.save(
        folder / "x.npy", (np.eye(4, 16)[kind] + 0.1 * random.normal(size=(400, 16))).astype("f")
    )
    labels = {"class": kind.tolist(), "group": (np.arange(400) // 8).tolist()}
    (folder / "labels.json").write_text(json.dumps(labels))
    config = planted_config(steps=20, batch_size=64, sweep={"k": (2, 3)}, evaluate={"n_tokens": 64})
    stream = {"name": "npy", "path": str(folder / "x.npy"), "held_out": 0.2}
    return finished({**config, "stream": stream}, folder / "run")


@pytest.fixture(scope="session")
def explained(spoken, tmp_path_factory):
    """A run on a model's activations with explanations of two latents."""
    path = tmp_path_factory.mktemp("explained") / "run"
    shutil.copytree(spoken, path)
    (path / "explanations").mkdir()
    lines = "".join(json.dumps({"latent": i, "text": "a word"}) + "\n" for i in (3, 5))
    name = restore(path)[0].name
    (path / "explanations" / f"{name}.jsonl").write_text(lines)
    return path


@pytest.fixture(scope="session")
def mlps(spoken, tmp_path_factory):
    """A set of transcoders of the same model's MLPs."""
    taps = [tuple(f"{place}.{layer}" for layer in range(3)) for place in ("mlp_in", "mlp_out")]
    config = dict(read_config(spoken))
    config["stream"] = {"name": "from_lm", "tap": taps[0], "target": taps[1], "pool_rows": 512}
    config["harvest"] = {"taps": taps[0] + taps[1], "text": str(spoken.parent / "text.jsonl")}
    config["harvest"] |= {"sequence_length": 24, "held_out": 0.2, "dtype": "float32"}
    config["dictionary"] = {"name": "transcoders", "sources": 3, "n_latents": 96, "k": 9}
    config["rule"] = {**config["rule"], "unit_norm": False}
    return finished(config, tmp_path_factory.mktemp("mlps") / "run")


@pytest.fixture
def subjects(request, tmp_path, monkeypatch):
    """name -> fresh paths of an analysis' subjects, the first a copy of the run. The model that is asked of
    latents says little, and quickly; of the labelled leads of Wikipedia there are few, and words are made up,
    because the model's tokens are bytes. One question is asked on each class,
    three cities are known, four names and nouns are, few games are played, and dictionaries of atoms are
    trained for a few steps."""
    quick = lambda lm=None, model="": Fake(lambda message: "[1, 0, 1, 0, 1] [EXPLANATION]: a word")
    monkeypatch.setattr(local, "local", quick)
    few = list(text_wiki._articles())[::20]
    monkeypatch.setattr(text_wiki, "_articles", lambda: few)
    words = Task(tuple(f" {i}{'ab'[i % 2]}" for i in range(60)), np.array([*"AB"] * 30))
    monkeypatch.setattr(first_letters, "first_letters", lambda tokenizer: words)
    one = planted_questions.planted_questions(n=1)
    monkeypatch.setattr(planted_questions, "planted_questions", lambda: one)
    some = cities.cities()
    three = some.where(np.isin(some.attributes["entity"], ("Oslo", "Cairo", "Lima")))
    monkeypatch.setattr(cities, "cities", lambda: three)
    monkeypatch.setitem(meta_structure.meta_structure.__kwdefaults__, "steps", 20)
    monkeypatch.setitem(ioi.ioi.__kwdefaults__, "n_names", 2)
    monkeypatch.setattr(ioi_prompts, "_NAMES", NAMES_OF_FOUR)
    monkeypatch.setitem(othello.othello.__kwdefaults__, "n", 60)
    nouns = {"man": "men", "cat": "cot", "pig": "pug", "dog": "dug"}
    monkeypatch.setattr(agreement, "NOUNS", nouns)
    monkeypatch.setattr(agreement, "VERBS", (("is", "are"),))
    for key, value in FEW.items():
        monkeypatch.setitem(feature_circuit.feature_circuit.__kwdefaults__, key, value)
    for key, value in FEW_LATENTS.items():
        monkeypatch.setitem(ioi_attributions.ioi_attributions.__kwdefaults__, key, value)
    for key, value in FEW_HEADS.items():
        monkeypatch.setitem(discrete_circuit.discrete_circuit.__kwdefaults__, key, value)

    def fresh(name):
        kind = SUBJECTS.get(name)
        fixtures = {SPOKEN: "spoken", ARRAY: "array_run", EXPLAINED: "explained", MLPS: "mlps"}
        fixture = fixtures.get(kind, "planted_run")
        run = request.getfixturevalue("single" if kind == SERIES else fixture)
        copy = tmp_path / "run"
        if not copy.exists():
            shutil.copytree(run, copy)
        return [copy, request.getfixturevalue("single")] if kind in (PAIR, SERIES) else [copy]

    return fresh


@pytest.fixture(scope="session")
def results():
    """The first Result of each analysis, by name."""
    return {}


@pytest.fixture
def first(subjects, results, tmp_path):
    """name -> the Result of the analysis on its subjects, computed once for all tests. Its values name the
    folder of a subject as if it were the test's own."""

    def found(name):
        if name not in results:
            results[name] = analyses.run(name, subjects(name)), str(tmp_path)
        result, folder = results[name]
        text = json.dumps(result.values).replace(folder, str(tmp_path))
        return Result(json.loads(text), result.tables, result.figures)

    return found


@pytest.fixture
def told(first, monkeypatch):
    """The analyses that were run, by name: they answer what they answered first, so that what asks them is
    tested, and not they again."""
    asked = []
    monkeypatch.setattr(analyses, "run", lambda name, *_, **__: asked.append(name) or first(name))
    return asked


def alike(a, b):
    """Whether two trees are the same but for rounding."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(alike(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(alike, a, b))
    return a == pytest.approx(b, rel=1e-4, abs=1e-6) if isinstance(a, float) else a == b


@every
def test_it_is_a_function_of_subjects_whose_settings_have_defaults(name):
    made = analyses.make(name)
    assert inspect.signature(made).return_annotation is Result
    assert made.__doc__
    first, *settings = inspect.signature(made).parameters.values()
    assert first.name == "subjects"
    assert all(each.kind is each.KEYWORD_ONLY for each in settings)
    assert all(each.default is not each.empty for each in settings)


@every
def test_it_writes_valid_json_whose_tables_are_whole(name, first, tmp_path):
    found = first(name)
    paths = analyses.write(name, found, {}, tmp_path)

    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    kept = json.loads(paths[0].read_text(), parse_constant=refuse)
    assert kept["values"] == found.values
    assert kept["values"]
    for table in kept["tables"]:
        assert table["rows"]
        assert {len(row) for row in table["rows"]} == {len(table["columns"])}
    drawings = paths[1::2]
    assert kept["figures"] == [path.name for path in drawings]
    for path in drawings:
        assert ElementTree.parse(path).getroot().tag.endswith("svg")
        rows = list(csv.reader(path.with_suffix(".csv").read_text().splitlines()))
        assert rows[0] == ["panel", "series", "x", "y"]
        assert len(rows) > 1, f"{path.name} draws no data"


@every
def test_it_says_the_same_again_however_tokens_are_batched(name, subjects, first, monkeypatch):
    values = first(name).values
    monkeypatch.setattr(_subject, "PASS", 100)
    assert alike(analyses.run(name, subjects(name)).values, values)


@every
def test_it_does_not_depend_on_the_order_of_dictionaries_or_subjects(name, subjects, first):
    if name in ORDERED:
        pytest.skip("its answer is about the order")
    turned = [Subject.of(path) for path in reversed(subjects(name))]
    for subject in turned:
        subject.__dict__["trained"] = list(reversed(subject.trained))
    other_way = analyses.run(name, turned)
    for mine, other in zip(first(name).tables, other_way.tables, strict=True):
        assert alike(sorted(map(str, mine.rows)), sorted(map(str, other.rows)))


@every
def test_it_refuses_a_setting_that_it_has_not_and_lists_those_it_has(name, subjects):
    with pytest.raises(ValueError, match=BAD) as caught:
        analyses.run(name, subjects(name), **{BAD: 1})
    assert all(setting in str(caught.value) for setting in analyses.settings(name))


@every
def test_it_is_found_by_the_command_line_and_by_the_page(name, subjects, first, told, capsys):
    paths, _ = subjects(name), first(name)
    words = [str(path) for path in paths] if len(paths) > 1 else []
    assert cli.main(["analyse", name, *words, f"--workdir={paths[0]}"]) == 0, capsys.readouterr()
    assert "analyses" in capsys.readouterr().out
    assert told == [name]
    page = report.write(read_json(paths[0] / "config.json", "train"), paths[0]).read_text()
    assert f'<section id="analysis-{name}">' in page
    for table in read_json(paths[0] / "analyses" / f"{name}.json", "analyse")["tables"]:
        assert f"<h3>{table['title']}</h3>" in page


@every
def test_a_config_asks_for_it(name, subjects, first, told, tmp_path, capsys):
    paths, _ = subjects(name), first(name)
    if len(paths) > 1:
        pytest.skip("a config asks of its own run alone")
    config = read_json(paths[0] / "config.json", "train")
    write_json(paths[0] / "config.json", {**config, "analyses": {name: {}}})
    assert cli.main(["analyse", f"--workdir={paths[0]}"]) == 0, capsys.readouterr()
    assert (paths[0] / "analyses" / f"{name}.json").exists()
    assert told == [name]


@every
def test_what_it_needs_of_a_run_is_known_before_it_is_trained(name, single):
    """A run with one dictionary, on planted data: it is refused where it would fail later, and only there."""
    config = read_config(single)
    stream, told = open_stream(config), ""
    try:
        analyses.check_run({name: {}}, config, stream)
    except ValueError as error:
        told = str(error)
    failed = False
    try:
        analyses.run(name, [single])
    except ValueError:
        failed = True
    assert failed == bool(told), told
    assert f"config.analyses.{name} needs" in told or not told


def test_an_unknown_analysis_is_answered_with_those_there_are():
    with pytest.raises(ValueError, match="'divination'") as caught:
        analyses.run("divination", [])
    assert all(name in str(caught.value) for name in NAMES)
