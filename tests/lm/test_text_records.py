"""Lists in JSON, CSV and lone Arrow files as people have them; what holds no text is named with its place."""

import csv
import io
import json

import pytest

from dictlearn.lm import text, text_lines

MARK = b"\xef\xbb\xbf"
WANTED = ["one", "two\nlines"]
RECORDS = [{"id": 1, "text": "one"}, {"text": None}, {"text": "two\nlines", "n": 3}]


def everything(source, **options):
    return sorted(text.documents(source, held_out=0.0, **options)[0])


def found(tmp_path, name, data, **options):
    (tmp_path / name).write_bytes(data)
    return everything(tmp_path / name, **options)


def written(rows, header=("id", "text"), **options):
    file = io.StringIO(newline="")
    csv.writer(file, quoting=csv.QUOTE_ALL, **options).writerows([header, *rows])
    return file.getvalue()


JSON = {
    "list of records": json.dumps(RECORDS),
    "list over lines": json.dumps(RECORDS, indent=2),
    "list with other line ends": json.dumps(RECORDS, indent=2).replace("\n", "\r\n"),
    "list of strings": json.dumps([*WANTED, None, ""]),
    "record per line": "\n\n".join(map(json.dumps, RECORDS)),
}


@pytest.mark.parametrize("kind", JSON)
@pytest.mark.parametrize("mark", [b"", MARK])
def test_json_of_every_shape(tmp_path, kind, mark):
    assert found(tmp_path, "a.json", mark + JSON[kind].encode()) == WANTED


def test_one_record_alone(tmp_path):
    for indent in (None, 1):
        assert found(tmp_path, "a.json", json.dumps({"text": "x"}, indent=indent).encode()) == ["x"]


@pytest.mark.parametrize(
    "data",
    [
        b'["a", 3]',
        b'["a", {"other": "b"}]',
        b'["a", {"text": 1}]',
        b'["a", ["b"]]',
        b'["a", "\\ud83d"]',
    ],
)
def test_an_entry_that_holds_no_text_is_named(tmp_path, data):
    with pytest.raises(ValueError, match=r"a\.json, entry 2: "):
        found(tmp_path, "a.json", data)


@pytest.mark.parametrize(
    "data",
    [b'["a", "b"', b'["a"] "b"', b"[" * 99_999, b"a", b'{"text":\n"a"', b'{"text": "a"}\n"b"'],
)
def test_what_is_no_json_is_named(tmp_path, data):
    with pytest.raises(ValueError, match=r"a\.json"):
        found(tmp_path, "a.json", data)


def test_a_list_does_not_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(text_lines, "LONGEST", 31)
    with pytest.raises(ValueError, match=r"a\.json: .*31"):
        found(tmp_path, "a.json", b'["one",\n' * 9)


ROWS = [[1, "one"], [2, ""], [3, "two\nlines"]]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", MARK])
def test_csv_of_every_delimiter_and_line_end(tmp_path, delimiter, end, mark):
    data = mark + written(ROWS, delimiter=delimiter, lineterminator=end).encode()
    assert found(tmp_path, "a.csv", data) == WANTED


def test_quoted_fields_hold_delimiters_quotes_and_line_ends(tmp_path):
    odd = ['a, "b"; c\td', "x" * 200_000, "a\n\nb"]
    assert found(
        tmp_path, "a.csv", written([[i, one] for i, one in enumerate(odd)]).encode()
    ) == sorted(odd)
    assert found(tmp_path, "a.csv", written([["x", 1]], ("text", "a;b")).encode()) == ["x"]


def test_rows_between_blank_lines_and_in_utf16(tmp_path):
    assert found(tmp_path, "a.csv", b"\ntext\n\none\n\ntwo\n\n") == ["one", "two"]
    assert found(tmp_path, "a.csv", "text\néén\n".encode("utf-16")) == ["één"]


@pytest.mark.parametrize(
    "row", [b"1", b"1,a,b", b'1,"a"b', b'1,"a\n', b"1,caf\xe9", b"1,a\0"], ids=range(6)
)
def test_a_row_that_is_none_is_named(tmp_path, row):
    with pytest.raises(ValueError, match=r"a\.csv, line [34]: "):
        found(tmp_path, "a.csv", b"id,text\n0,x\n" + row)


@pytest.mark.parametrize("name", ["a.csv", "a.json", "a.arrow"])
def test_a_missing_column_is_named(tmp_path, name, request):
    if name == "a.arrow":
        write_arrow(request.getfixturevalue("arrow"), tmp_path / name, ["a"])
    else:
        data = {"a.csv": written([[1, "a"]]), "a.json": json.dumps(RECORDS)}[name]
        (tmp_path / name).write_text(data)
    with pytest.raises(ValueError, match=rf"{name}.*'body'"):
        everything(tmp_path / name, column="body")


def test_a_column_that_comes_twice_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"a\.csv: .*'text'"):
        found(tmp_path, "a.csv", written([["a", "b"]], ("text", "text")).encode())


@pytest.mark.parametrize("name", ["a.csv", "a.json"])
@pytest.mark.parametrize("data", [b"", MARK, b"\n \n", b"[]", b"text\n"])
def test_a_file_of_no_documents_is_named(tmp_path, name, data):
    with pytest.raises(ValueError, match=name):
        found(tmp_path, name, data)


@pytest.fixture
def arrow():
    pytest.importorskip("pyarrow")
    import pyarrow.feather

    return pyarrow


def write_arrow(arrow, path, documents, streaming=False):
    table = arrow.table({"text": documents})
    new = arrow.ipc.new_stream if streaming else arrow.ipc.new_file
    with new(str(path), table.schema) as writer:
        writer.write_table(table)


@pytest.mark.parametrize("streaming", [False, True])
def test_a_lone_arrow_file_or_stream(tmp_path, arrow, streaming):
    write_arrow(arrow, tmp_path / "a.arrow", ["one", None, "two\nlines"], streaming)
    assert everything(tmp_path / "a.arrow") == WANTED


def test_feather_and_what_is_none(tmp_path, arrow):
    arrow.feather.write_feather(arrow.table({"text": WANTED}), str(tmp_path / "a.feather"))
    assert everything(tmp_path / "a.feather") == WANTED
    with pytest.raises(ValueError, match=r"b\.feather: "):
        found(tmp_path, "b.feather", b"FEA1" + b"\0" * 40)


def test_in_a_folder_what_describes_a_corpus_is_no_part_of_it(tmp_path, arrow):
    (tmp_path / "info.json").write_text('["json"]')
    assert everything(tmp_path) == ["json"]
    (tmp_path / "meta.csv").write_text("text\ncsv\n")
    assert everything(tmp_path) == ["csv"]
    for name in ("cache-1.arrow", "data.arrow"):
        write_arrow(arrow, tmp_path / name, [name])
    assert everything(tmp_path) == ["data.arrow"]
    (tmp_path / "a.jsonl").write_text('{"text": "jsonl"}')
    assert everything(tmp_path) == ["jsonl"]
    assert everything(tmp_path / "*.csv") == ["csv"]
