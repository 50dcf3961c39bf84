"""Text as people have it: marks, encodings, line ends, hidden files, odd columns, damage.

Whatever is text comes out as it is; whatever is not is refused with its file, and its line or rows."""

import codecs
import gzip
import json

import pytest

from dictlearn.lm import text, text_lines

MARK = codecs.BOM_UTF8
PLAIN = "één\nstill\n\ntwo\n"
WANTED = ["one", "two"]


def everything(source, **options):
    return sorted(text.documents(source, held_out=0.0, **options)[0])


def found(tmp_path, name, data, **options):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return everything(path, **options)


def zstandard(data):
    lib = pytest.importorskip("pyarrow")
    return lib.compress(data, codec="zstd", asbytes=True)


PACKERS = {"": bytes, ".gz": gzip.compress, ".zst": zstandard}


@pytest.mark.parametrize("packed", text_lines.PACKED)
@pytest.mark.parametrize("mark", [b"", MARK])
def test_every_packing_with_and_without_a_mark(tmp_path, packed, mark):
    lines = mark + b'{"text": "one"}\n{"text": "two"}\n'
    assert found(tmp_path, f"a.jsonl{packed}", PACKERS[packed](lines)) == WANTED
    assert found(tmp_path, f"a.txt{packed}", PACKERS[packed](mark + b"one\n\ntwo")) == WANTED


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_says_the_encoding(tmp_path, encoding):
    assert found(tmp_path, "a.txt", PLAIN.encode(encoding)) == ["two", "één\nstill"]
    lines = json.dumps({"text": "één"}, ensure_ascii=False)
    assert found(tmp_path, "a.jsonl", lines.encode(encoding)) == ["één"]


@pytest.mark.parametrize("mark", [codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE])
def test_big_endian_too(tmp_path, mark):
    encoding = "utf-16-be" if mark == codecs.BOM_UTF16_BE else "utf-32-be"
    assert found(tmp_path, "a.txt", mark + PLAIN.encode(encoding)) == ["two", "één\nstill"]


def test_marks_at_the_seams_of_joined_files_are_no_text(tmp_path):
    assert found(tmp_path, "a.txt", MARK + b"one\n\n" + MARK + b"two") == WANTED
    record = b'{"text": "%s"}\n'
    joined = MARK + record % b"one" + MARK + record % b"two" + MARK
    assert found(tmp_path, "a.jsonl", joined) == WANTED


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("blank", [b"", b" ", b"\t \t"])
def test_line_ends_and_blank_lines_of_every_kind(tmp_path, end, blank):
    lines = [b"one", b"still", blank, blank, b"two", blank]
    assert found(tmp_path, "a.txt", end.join(lines)) == ["one\nstill", "two"]
    records = [b'{"text": "one"}', blank, b'{"text": "two"}', blank]
    assert found(tmp_path, "a.jsonl", end.join(records)) == WANTED


def test_other_separators_are_part_of_the_text(tmp_path):
    assert found(tmp_path, "a.txt", "a\u2028b\x0cc".encode()) == ["a\u2028b\x0cc"]


@pytest.mark.parametrize(
    "hidden", [".a.txt", "._a.txt", ".ipynb_checkpoints/a.txt", ".git/b/a.txt", "b/.c/a.jsonl"]
)
def test_hidden_files_are_no_part_of_a_folder_or_a_pattern(tmp_path, hidden):
    for name, data in (("x/a.txt", b"new"), (f"x/{hidden}", b"\xff old")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    assert everything(tmp_path / "x") == ["new"]
    assert everything(tmp_path / "x" / "**" / "*.*") == ["new"]


def test_what_is_named_is_read_though_hidden(tmp_path):
    assert found(tmp_path, ".cache/a.txt", b"one") == ["one"]
    assert everything(tmp_path / ".cache") == ["one"]
    assert everything(tmp_path / ".cache" / "*") == ["one"]
    assert everything(tmp_path / ".c*" / "*.txt") == ["one"]


def test_endings_are_known_in_either_case_and_a_folder_is_no_file(tmp_path):
    (tmp_path / "b.txt").mkdir()
    assert found(tmp_path, "A.JSONL", b'{"text": "one"}') == ["one"]
    assert everything(tmp_path) == ["one"]


@pytest.mark.parametrize(
    "number",
    [
        "9" * 5000,
        "-1e400",
        "-" + "1" * 4301,
        "[[" + "7" * 4301 + "]]",
        "NaN",
        "Infinity",
        "[[1e999]]",
        "null",
    ],
)
def test_fields_that_are_not_read_may_hold_anything(tmp_path, number):
    assert found(tmp_path, "a.jsonl", b'{"n": %s, "text": "x"}' % number.encode()) == ["x"]


def test_of_a_field_that_comes_twice_the_last_counts(tmp_path):
    assert found(tmp_path, "a.jsonl", b'{"text": 1, "text": "two"}') == ["two"]


BAD_LINES = [
    b'{"text": "\xff"}',
    '{"text": "é"}'.encode("latin1"),
    b'{"text": "\xed\xa0\x80"}',
    b'{"text": "\\ud83d"}',
    b'{"text": "\x00"}',
    b'{"text": 3}',
    b'{"text": 1e400}',
    b'{"text": ' + b"9" * 5000 + b"}",
    b'{"text": ["a"]}',
    b'{"text": {"text": "a"}}',
    b'{"text": true}',
    b'{"other": "a"}',
    b'"text"',
    b'{"text": "a"} {"text": "b"}',
    b'{"text": "a"',
    b"[" * 100_000,
    b"\x1f\x8b",
]


@pytest.mark.parametrize("line", BAD_LINES, ids=range(len(BAD_LINES)))
@pytest.mark.parametrize("end", [b"\n", b"\r"])
def test_a_line_that_holds_no_text_is_named(tmp_path, line, end):
    with pytest.raises(ValueError, match=r"a\.jsonl, line 3: "):
        found(tmp_path, "a.jsonl", end.join([b'{"text": "x"}', b"", line, b'{"text": "y"}']))


@pytest.mark.parametrize("line", [b"caf\xe9", b"a\0b", b"\xc3", "one".encode("utf-16-le")])
@pytest.mark.parametrize("among", [False, True])
def test_a_line_of_plain_text_that_is_none_is_named(tmp_path, line, among):
    (tmp_path / "a.txt").write_bytes(b"one\ntwo\n" + line)
    with pytest.raises(ValueError, match=r"a\.txt, line 3: "):
        everything(tmp_path if among else tmp_path / "a.txt")


def test_utf16_that_ends_within_a_letter_or_holds_half_a_pair_is_named(tmp_path):
    whole = "one\n".encode("utf-16")
    for tail in (b"a", b"\x00\xd8", b"\x00\xd8a\x00"):
        with pytest.raises(ValueError, match=r"a\.txt, line \d: "):
            found(tmp_path, "a.txt", whole + tail)


@pytest.mark.parametrize("name", ["a.jsonl", "a.txt"])
def test_a_line_without_an_end_does_not_fill_the_memory(tmp_path, monkeypatch, name):
    monkeypatch.setattr(text_lines, "LONGEST", 31)
    lines = b'{"text": "xxxxxxxxxxxxxxxxxxx"}\n'
    assert len(lines) == 32
    assert found(tmp_path, name, lines * 2)
    with pytest.raises(ValueError, match=r", line 2: .*31"):
        found(tmp_path, name, lines + b" " + lines)


DAMAGE = {
    "truncated": lambda data: data[:-12],
    "cut to its head": lambda data: data[:6],
    "followed by garbage": lambda data: data + b"garbage",
    "another": lambda data: b'{"text": "plain"}\n',
    "flipped": lambda data: data[:30] + bytes([data[30] ^ 255]) + data[31:],
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("packed", [".gz", ".zst"])
def test_a_broken_archive_is_named(tmp_path, packed, damage):
    data = PACKERS[packed](b"".join(b'{"text": "%d"}\n' % i**9 for i in range(99)))
    with pytest.raises(ValueError, match=rf"a\.jsonl\{packed}, line \d+: "):
        found(tmp_path, f"a.jsonl{packed}", DAMAGE[damage](data))


@pytest.mark.parametrize("data", [b"", b"\n\n", MARK, b" \t\n", codecs.BOM_UTF16_LE])
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.txt.gz", "b/a.txt"])
def test_a_source_of_no_documents_is_named(tmp_path, name, data):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    source = path.parent if name == "b/a.txt" else path
    with pytest.raises(ValueError, match=f"'{source}'"):
        everything(source)


def test_a_folder_of_nothing_is_named(tmp_path):
    for folder in ("empty", "only/.hidden"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "only" / ".DS_Store").write_bytes(b"\0")
    (tmp_path / "only" / ".a.txt").write_bytes(b"a")
    for source in ("empty", "only", "only/*"):
        with pytest.raises(ValueError, match=source[:4]):
            everything(tmp_path / source)


def kinds(arrow):
    plain = arrow.array(["one", None, "two", "one", ""])
    whole = {
        "string": plain,
        "large_string": plain.cast(arrow.large_string()),
        "string_view": plain.cast(arrow.string_view()),
        "dictionary": plain.dictionary_encode(),
        "large dictionary": plain.cast(arrow.large_string()).dictionary_encode(),
    }
    return whole


KINDS = ("string", "large_string", "string_view", "dictionary", "large dictionary")


def write_dataset(arrow, folder, column):
    folder.mkdir()
    table = arrow.table({"text": column})
    with arrow.ipc.new_stream(str(folder / "a.arrow"), table.schema) as writer:
        writer.write_table(table)
    (folder / "state.json").write_text('{"_data_files": [{"filename": "a.arrow"}]}')


@pytest.fixture
def arrow():
    pytest.importorskip("pyarrow")
    import pyarrow.ipc
    import pyarrow.parquet

    return pyarrow


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_string_column(tmp_path, arrow, kind):
    column = kinds(arrow)[kind]
    arrow.parquet.write_table(arrow.table({"text": column}), tmp_path / "a.parquet")
    write_dataset(arrow, tmp_path / "d", column)
    for source in ("a.parquet", "d"):
        assert everything(tmp_path / source) == ["one", "one", "two"]


def test_runs_of_one_value_and_columns_of_dotted_names(tmp_path, arrow):
    runs = arrow.RunEndEncodedArray.from_arrays(arrow.array([2, 3]), arrow.array(["one", "two"]))
    write_dataset(arrow, tmp_path / "d", runs)
    assert everything(tmp_path / "d") == ["one", "one", "two"]
    dotted = arrow.table({"text.raw": ["raw"], "text": ["one"], "meta": [{"text": "no"}]})
    arrow.parquet.write_table(dotted, tmp_path / "a.parquet")
    assert everything(tmp_path / "a.parquet") == ["one"]


@pytest.mark.parametrize("kind", ["numbers", "lists", "structs", "bytes", "categories", "twice"])
def test_a_column_that_is_no_text_is_named(tmp_path, arrow, kind):
    values = {"numbers": [1], "lists": [["a"]], "structs": [{"text": "a"}], "bytes": [b"a"]}
    column = arrow.array(values.get(kind, ["a"]))
    column = arrow.array([1, 1]).dictionary_encode() if kind == "categories" else column
    table = arrow.table(
        [column] * (1 + (kind == "twice")), names=["text"] * (1 + (kind == "twice"))
    )
    arrow.parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"a\.parquet: .*'text'"):
        everything(tmp_path / "a.parquet")


@pytest.mark.parametrize("coded", [False, True])
def test_rows_that_are_not_utf8_are_named(tmp_path, arrow, coded):
    good = arrow.array([b"ab"] * 1025 + [b"\xff\xfe"], arrow.binary())
    bad = arrow.Array.from_buffers(arrow.string(), 1026, good.buffers())
    bad = bad.dictionary_encode() if coded else bad
    arrow.parquet.write_table(arrow.table({"text": bad}), tmp_path / "a.parquet")
    write_dataset(arrow, tmp_path / "d", bad)
    with pytest.raises(ValueError, match=r"a\.parquet, rows \d+ to \d+: "):
        everything(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"a\.arrow, rows \d+ to \d+: "):
        everything(tmp_path / "d")


@pytest.mark.parametrize("cut", [0, 4, 40, -8])
def test_damaged_tables_are_named(tmp_path, arrow, cut):
    column = arrow.array(["document"] * 100)
    arrow.parquet.write_table(arrow.table({"text": column}), tmp_path / "a.parquet")
    write_dataset(arrow, tmp_path / "d", column)
    for name in ("a.parquet", "d/a.arrow"):
        if (name, cut) == ("d/a.arrow", -8):  # the mark of the end, which a stream may lack
            continue
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[:cut])
        with pytest.raises(ValueError, match=r"a\.(parquet|arrow): "):
            everything(tmp_path / name.removesuffix("/a.arrow"))
