"""Files of labelled texts: the same task from every format, and a bad record named by file, line and column."""

import json
import re

import pyarrow
import pytest
from pyarrow import parquet

from dictlearn import tasks

ROWS = [
    {"text": "A nurse.", "label": 1, "side": "train", "who": "f"},
    {"text": "Un, “naïve”\nline", "label": 2, "side": "test", "who": "m"},
    {"text": "A third.", "label": 2, "side": "validation", "who": "f"},
    {"text": " ", "label": 2, "side": "train", "who": "f"},
]
COLUMNS = {"split": "side", "attributes": ("who",)}


def as_jsonl(path):
    path = path / "a.jsonl"
    path.write_text("\n".join(map(json.dumps, ROWS)), "utf-8")
    return path


def as_parquet(path):
    path = path / "a.parquet"
    parquet.write_table(pyarrow.Table.from_pylist([{**row, "vector": [1.0]} for row in ROWS]), path)
    return path


def as_csv(path):
    path = path / "a.csv"
    quoted = lambda value: '"' + str(value) + '"'
    lines = [",".join(map(quoted, row.values())) for row in ROWS]
    path.write_text("\n".join(["text,label,side,who", *lines]), "utf-8")
    return path


@pytest.mark.parametrize("write", [as_jsonl, as_parquet, as_csv])
def test_every_format_gives_the_same_task(write, tmp_path):
    task = tasks.make(str(write(tmp_path)), **COLUMNS)
    assert task.text == ("A nurse.", "Un, “naïve”\nline")
    assert task.label_S.tolist() == ["1", "2"]
    assert task.split_S.tolist() == ["train", "test"]
    assert task.attributes["who"].tolist() == ["f", "m"]


def test_the_names_of_files_are_the_split(tmp_path):
    for name in ("train-00000-of-1.jsonl", "test.jsonl", "dev.jsonl"):
        (tmp_path / name).write_text(json.dumps({"text": name, "label": "x"}))
    task = tasks.make(str(tmp_path))
    assert dict(zip(task.text, task.split_S, strict=True)) == {
        "test.jsonl": "test",
        "train-00000-of-1.jsonl": "train",
    }
    (tmp_path / "other.jsonl").write_text('{"text": "a", "label": "x"}')
    with pytest.raises(ValueError, match="others without one"):
        tasks.make(str(tmp_path))


def test_so_many_of_each_label_are_read(tmp_path):
    rows = [{"text": f"t{i}", "label": i % 3 == 0} for i in range(9)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert tasks.make(str(tmp_path / "a.jsonl"), most=2).text == ("t0", "t1", "t2", "t3")


BAD = {
    '{"text": "a", "label": "x"': "line 2: not JSON",
    '["a", "x"]': "line 2: list, not a record",
    '{"text": "a"}': "line 2: no column 'label'; there are text",
    '{"text": "a", "label": null}': "line 2, column 'label': null, not text or a number",
    '{"text": "a", "label": NaN}': "line 2, column 'label': null, not text or a number",
    '{"text": ["a"], "label": "x"}': "line 2, column 'text': list, not text or a number",
    '{"text": "\\ud800", "label": "x"}': "line 2, column 'text': half a surrogate pair",
    '{"text": "a", "label": "x\0"}': "line 2: a NUL byte",
}


@pytest.mark.parametrize("line", BAD)
def test_a_bad_line_is_named(line, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "fine", "label": "x"}\n' + line + "\n")
    with pytest.raises(ValueError, match=re.escape(f"{path}, {BAD[line]}")):
        tasks.make(str(path))


def test_a_bad_row_of_a_table_is_named(tmp_path):
    path = tmp_path / "a.parquet"
    rows = [{"text": "a", "label": 1}, {"text": "b", "label": None}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    with pytest.raises(ValueError, match=re.escape(f"{path}, row 2, column 'label': null")):
        tasks.make(str(path))
    with pytest.raises(
        ValueError, match=re.escape(f"{path}: no column 'kind'; there are text, label")
    ):
        tasks.make(str(path), label="kind")
    path.write_bytes(b"PAR1 and no more")
    with pytest.raises(ValueError, match=re.escape(f"{path}: broken or not Parquet")):
        tasks.make(str(path))


def test_an_unknown_split_and_an_empty_or_other_file_are_refused(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a", "label": "x", "split": "hidden"}')
    with pytest.raises(ValueError, match=r"line 1, column 'split': 'hidden' is no split"):
        tasks.make(str(path), split="split")
    path.write_text("\n")
    with pytest.raises(ValueError, match="holds no document with a label"):
        tasks.make(str(path))
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(ValueError, match=r"a.txt: labelled texts are .jsonl, .csv or .parquet"):
        tasks.make(str(tmp_path / "a.txt"))
    with pytest.raises(FileNotFoundError, match=r"b.jsonl"):
        tasks.make(str(tmp_path / "b.jsonl"))


def test_a_data_set_of_the_hub_is_downloaded_by_its_patterns(tmp_path, monkeypatch):
    from dictlearn.lm import hub

    asked = []

    class Library:
        @staticmethod
        def snapshot_download(name, repo_type, allow_patterns):
            asked.append((name, repo_type, tuple(allow_patterns)))
            return str(as_jsonl(tmp_path).parent)

    monkeypatch.setattr(hub, "library", lambda purpose: Library)
    assert tasks.make("file", source="owner/name", **COLUMNS).label_S.tolist() == ["1", "2"]
    assert asked == [("owner/name", "dataset", ("*.parquet", "*.jsonl", "*.csv"))]
