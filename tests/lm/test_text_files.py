"""The same documents come out of every kind of file, and what is broken is named."""

import gzip
import json
import re
import sys

import pytest

from dictlearn.lm import text

DOCUMENTS = sorted(f"document {i}" for i in range(40))


def lines(documents=DOCUMENTS, column="text"):
    return "".join(json.dumps({column: one, "id": 3}) + "\n" for one in documents)


def everything(source, **options):
    return sorted(text.documents(source, held_out=0.0, **options)[0])


@pytest.fixture
def arrow():
    pytest.importorskip("pyarrow")
    import pyarrow.ipc
    import pyarrow.parquet

    return pyarrow


def write_arrow(arrow, path, documents, column="text", streaming=True):
    table = arrow.table({"id": list(range(len(documents))), column: documents})
    new = arrow.ipc.new_stream if streaming else arrow.ipc.new_file
    with new(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=7)


def write_dataset(arrow, folder, documents=DOCUMENTS, streaming=True, **state):
    """The layout of `Dataset.save_to_disk`: two Arrow files and the list of them."""
    folder.mkdir(parents=True)
    names = [f"data-0000{i}-of-00002.arrow" for i in range(2)]
    for i, name in enumerate(names):
        write_arrow(arrow, folder / name, documents[i::2], streaming=streaming)
    listed = {"_data_files": [{"filename": name} for name in names], **state}
    (folder / "state.json").write_text(json.dumps(listed))
    (folder / "dataset_info.json").write_text("{}")


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_json_lines_plain_or_gzipped(tmp_path, name):
    path = tmp_path / name
    written = lines(column="body").encode()
    path.write_bytes(gzip.compress(written) if name.endswith("gz") else written)
    assert everything(path, column="body") == DOCUMENTS
    with pytest.raises(ValueError, match=rf"{re.escape(name)}, line 1: .*'text'"):
        text.documents(path)


def test_parquet_files(tmp_path, arrow):
    table = arrow.table({"id": list(range(40)), "body": DOCUMENTS})
    arrow.parquet.write_table(table, tmp_path / "a.parquet", row_group_size=7)
    assert everything(tmp_path / "a.parquet", column="body") == DOCUMENTS
    with pytest.raises(ValueError, match=r"'text'.*id, body"):
        text.documents(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"'id'.*int64.*string"):
        text.documents(tmp_path / "a.parquet", column="id")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(ValueError, match=r"bad\.parquet: "):
        text.documents(tmp_path / "bad.parquet")


@pytest.mark.parametrize("streaming", [True, False])
def test_a_dataset_saved_to_disk(tmp_path, arrow, streaming):
    write_dataset(arrow, tmp_path / "d", streaming=streaming)
    assert everything(tmp_path / "d") == DOCUMENTS
    with pytest.raises(ValueError, match=r"split='train'"):
        text.documents(tmp_path / "d", split="train")


def test_a_split_of_a_dataset_dict(tmp_path, arrow):
    write_dataset(arrow, tmp_path / "d" / "train", DOCUMENTS[:30])
    write_dataset(arrow, tmp_path / "d" / "test", DOCUMENTS[30:])
    (tmp_path / "d" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    assert everything(tmp_path / "d", split="train") == DOCUMENTS[:30]
    assert everything(tmp_path / "d", split="test") == DOCUMENTS[30:]
    with pytest.raises(ValueError, match=r"\['train', 'test'\].*split=None"):
        text.documents(tmp_path / "d")


@pytest.mark.parametrize("name", ["../data-00000-of-00002.arrow", "/etc/passwd", "..", 3, None])
def test_a_dataset_cannot_name_a_file_outside_its_folder(tmp_path, arrow, name):
    write_arrow(arrow, tmp_path / "data-00000-of-00002.arrow", DOCUMENTS)
    write_dataset(arrow, tmp_path / "d", _data_files=[{"filename": name}])
    with pytest.raises(ValueError, match=r"state\.json: "):
        text.documents(tmp_path / "d")
    (tmp_path / "d" / "dataset_dict.json").write_text(json.dumps({"splits": [".."]}))
    with pytest.raises(ValueError, match=r"dataset_dict\.json: '\.\.'"):
        text.documents(tmp_path / "d", split="..")


def test_a_dataset_behind_an_index_or_broken_is_refused(tmp_path, arrow):
    write_dataset(arrow, tmp_path / "a", _indices_data_files=[{"filename": "indices.arrow"}])
    with pytest.raises(ValueError, match="flatten_indices"):
        text.documents(tmp_path / "a")
    write_dataset(arrow, tmp_path / "b")
    (tmp_path / "b" / "data-00001-of-00002.arrow").write_bytes(b"not arrow at all")
    with pytest.raises(ValueError, match=r"data-00001-of-00002\.arrow: "):
        text.documents(tmp_path / "b")


@pytest.mark.parametrize("pattern", ["", "*", "*/*.jsonl", "one/[ab].*"])
def test_a_folder_or_a_pattern_is_all_its_files(tmp_path, pattern):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "a.jsonl").write_text(lines(DOCUMENTS[:10]))
    (tmp_path / "one" / "b.txt").write_text("a document\n\nof two paragraphs")
    source = tmp_path if pattern == "" else tmp_path / pattern
    if pattern == "*":
        source = tmp_path / "one" / "*"
    if pattern in ("", "*"):
        (tmp_path / "one" / "c.jsonl").write_text("\n")
    expected = ["a document\n\nof two paragraphs", *DOCUMENTS[:10]]
    assert everything(source) == sorted(expected if "jsonl" not in pattern else DOCUMENTS[:10])


def test_a_folder_passes_over_what_it_cannot_read_and_a_pattern_refuses_it(tmp_path):
    (tmp_path / "a.jsonl").write_text(lines())
    (tmp_path / "README.md").write_text("a corpus")
    assert everything(tmp_path) == DOCUMENTS
    with pytest.raises(ValueError, match=r"README\.md"):
        text.documents(tmp_path / "*")
    with pytest.raises(ValueError, match=r"\*\.parquet"):
        text.documents(tmp_path / "*.parquet")
    with pytest.raises(FileNotFoundError, match=r"b\.jsonl"):
        text.documents(tmp_path / "b.jsonl")


def test_order_does_not_depend_on_how_documents_lie_in_files(tmp_path):
    (tmp_path / "one.jsonl").write_text(lines(DOCUMENTS[::-1]))
    (tmp_path / "two").mkdir()
    for i in range(3):
        (tmp_path / "two" / f"{i}.jsonl").write_text(lines(DOCUMENTS[i::3]))
    assert text.documents(tmp_path / "one.jsonl") == text.documents(tmp_path / "two")


def test_empty_documents_are_left_out(tmp_path):
    (tmp_path / "a.jsonl").write_text(lines(["", "one", " \n", None, "two"]))
    assert everything(tmp_path / "a.jsonl") == ["one", "two"]
    (tmp_path / "a.txt").write_bytes(b"\r\n\r\none\r\nstill\r\n\r\n\r\ntwo\r\n")
    assert everything(tmp_path / "a.txt") == ["one\nstill", "two"]


def test_a_bound_reads_no_further_than_it_needs(tmp_path):
    (tmp_path / "a.jsonl").write_text(lines() + "no JSON here\n")
    assert everything(tmp_path / "a.jsonl", n_documents=40) == DOCUMENTS
    assert everything(tmp_path / "a.jsonl", n_documents=3) == DOCUMENTS[:3]
    with pytest.raises(ValueError, match="line 41: "):
        text.documents(tmp_path / "a.jsonl", n_documents=41)
    with pytest.raises(ValueError, match="n_documents=0"):
        text.documents(tmp_path / "a.jsonl", n_documents=0)


def test_bytes_that_are_not_text_are_named(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(lines().encode() + b'{"text": "\xff"}\n')
    with pytest.raises(ValueError, match=r"a\.jsonl, line 41: "):
        text.documents(tmp_path / "a.jsonl")
    packed = gzip.compress(lines().encode())
    (tmp_path / "b.jsonl.gz").write_bytes(packed[:-20])
    with pytest.raises(ValueError, match=r"b\.jsonl\.gz, line \d+: "):
        text.documents(tmp_path / "b.jsonl.gz")


def test_without_pyarrow_the_pip_line_is_given(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    (tmp_path / "a.parquet").write_bytes(b"")
    with pytest.raises(ImportError, match="pip install pyarrow"):
        text.documents(tmp_path / "a.parquet")
