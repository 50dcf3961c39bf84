"""torch's files without torch, against torch; and the files that torch would never write."""

import os
import pickle
import zipfile

import numpy as np
import pytest
import torch

from dictlearn.interop import _torch_file, _torch_write

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
DTYPES += [torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_tensors_of_torch_are_read_to_the_bit(dtype, tmp_path):
    whole = (torch.arange(60).reshape(4, 15) % 7).to(dtype)
    parts = {"whole": whole, "turned": whole.T, "part": whole[1:3, 2::3], "one": whole[2, 3]}
    parts["none"] = whole[:0]
    torch.save(parts, tmp_path / "a.pt")
    found = _torch_file.read(tmp_path / "a.pt")
    assert found.keys() == parts.keys()
    for name, tensor in parts.items():
        array = _torch_file.array(tmp_path / "a.pt", found[name])
        assert found[name].shape == array.shape == tuple(tensor.shape)
        np.testing.assert_array_equal(array.astype("f8"), tensor.double().numpy())


def test_a_state_dict_and_plain_containers_are_read(tmp_path):
    module = torch.nn.Linear(3, 2)
    told = {"a": [1, 2.5, "x", None, True, (1, 2), (1,), ()], "big": 2**40, "deep": {"b": {}}}
    torch.save({"state": module.state_dict(), "one": module.weight, **told}, tmp_path / "a.pt")
    found = _torch_file.read(tmp_path / "a.pt")
    assert {key: found[key] for key in told} == told
    for tensor in (found["state"]["weight"], found["one"]):
        array = _torch_file.array(tmp_path / "a.pt", tensor)
        np.testing.assert_array_equal(array, module.weight.detach().numpy())


def test_torch_reads_what_is_written(tmp_path):
    arrays = {"w": np.arange(12, dtype="f4").reshape(3, 4).T, "k": np.int32(4)}
    arrays |= {"none": np.zeros((0, 3), "f4"), "long": np.arange(3), "half": np.ones(2, "f2")}
    plain = {"name": "TopK", "own": {"k": 3, "none": {}}}
    _torch_write.write(tmp_path / "a.pt", arrays | plain, {"note": [1.5]})
    found = torch.load(tmp_path / "a.pt", weights_only=True)
    assert list(found) == list(arrays | plain)
    assert {key: found[key] for key in plain} == plain
    assert _torch_file.note(tmp_path / "a.pt") == {"note": [1.5]}
    assert {"w", "TopK", "k"} <= _torch_file.texts(tmp_path / "a.pt")
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name].numpy(), array)
        assert str(found[name].dtype) == f"torch.{np.asarray(array).dtype}"
    again = _torch_file.read(tmp_path / "a.pt")
    np.testing.assert_array_equal(_torch_file.array(tmp_path / "a.pt", again["w"]), arrays["w"])


class Evil:
    def __init__(self, call, *arguments):
        self.made = call, arguments

    def __reduce__(self):
        return self.made


def archive(path, pickled=None, change=(), compression=zipfile.ZIP_STORED, **more):
    """torch's file of one tensor, with some of its entries replaced."""
    torch.save({"w": torch.arange(6.0)}, path)
    with zipfile.ZipFile(path) as there:
        entries = {name.partition("/")[2]: there.read(name) for name in there.namelist()}
    entries |= {"data.pkl": pickled} if pickled is not None else {}
    entries |= dict(change)
    with zipfile.ZipFile(path, "w", compression) as out:
        for name, data in entries.items():
            if data is not None:
                out.writestr(f"a/{name}", data)
        for name, data in more.items():
            out.writestr(name, data)
    return path


def evil(call, *arguments):
    return pickle.dumps({"w": Evil(call, *arguments)}, protocol=2)


DEEP = b"\x80\x02}" + b")" + b"\x85" * 100_000 + b"Ns."
"""A key of a hundred thousand tuples, whose hash would overflow the stack."""


@pytest.mark.parametrize(
    ("pickled", "message"),
    [
        (evil(os.system, "touch ran"), r"names posix\.system"),
        (evil(eval, "open('ran', 'w')"), r"names __builtin__\.eval"),
        (evil(torch.load, "x"), r"names torch\.serialization\.load"),
        (
            pickle.dumps({"w": Evil(os.system, "touch ran")}, protocol=4),
            r"has FRAME|SHORT_BINUNICODE",
        ),
        (b"\x80\x02ctorch\nFloatStorage\n)R.", r"calls _Name"),
        (b"\x80\x02cos\nsystem\n.", r"names os\.system"),
        (DEEP, r"key of its pickle is tuple"),
        (b"\x80\x02}r\xff\xff\xff\x7f.", r"\{\}"),
        (b"\x80\x02h\x07.", r"KeyError"),
        (b"\x80\x02R.", r"too few values"),
        (b"\x80\x02X\xff\xff\xff\x7fabc.", r"2147483647 bytes"),
        (b"", r"exhausted"),
    ],
)
def test_a_pickle_of_anything_else_is_refused_and_nothing_runs(
    pickled, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    path = archive(tmp_path / "a.pt", pickled)
    if message == r"\{\}":
        assert _torch_file.read(path) == {}  # a memo of two thousand million entries is not made
    else:
        with pytest.raises(ValueError, match=message):
            _torch_file.read(path)
    assert [each.name for each in tmp_path.iterdir()] == ["a.pt"]


def tensor(offset=0, shape=(6,), strides=(1,), size=6, key="0"):
    """The opcodes of one tensor."""
    whole = lambda n: b"\x8a\x08" + int(n).to_bytes(8, "little", signed=True)
    text = lambda t: b"X" + len(t).to_bytes(4, "little") + t.encode()
    numbers = lambda ns: b"(" + b"".join(map(whole, ns)) + b"t"
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text(key) + text("cpu")
    rest = whole(offset) + numbers(shape) + numbers(strides) + b"\x89}tR"
    rebuilt = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + whole(size) + b"tQ" + rest
    return b"\x80\x02}" + text("w") + rebuilt + b"s."


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"offset": 1}, r"tensor \[6\] does not fit"),
        ({"offset": -1}, r"offset -1"),
        ({"strides": (2,)}, r"does not fit"),
        ({"strides": (-1,)}, r"strides \(-1,\)"),
        ({"shape": (10**12,), "strides": (0,)}, r"does not fit"),
        ({"shape": (2, 3)}, r"shape \(2, 3\), strides \(1,\)"),
        ({"size": 10**12}, r"data/0 has 24 bytes, not 1000000000000"),
        ({"key": "../0"}, r"'data/\.\./0' is missing"),
    ],
)
def test_a_tensor_that_its_storage_does_not_hold_is_refused(fields, message, tmp_path):
    right = archive(tmp_path / "right.pt", tensor())
    np.testing.assert_array_equal(_torch_file.array(right, _torch_file.read(right)["w"]), range(6))
    with pytest.raises(ValueError, match=message):
        _torch_file.read(archive(tmp_path / "a.pt", tensor(**fields)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"../out": b"x"}, r"'\.\./out' leads out of its folder"),
        ({"/etc/out": b"x"}, r"'/etc/out' leads out"),
        ({"a\\..\\out": b"x"}, r"leads out"),
        ({"b/data.pkl": b"x"}, r"two entries 'data\.pkl'"),
        ({"change": {"data/0": None}}, r"'data/0' is missing"),
        ({"change": {"byteorder": b"big"}}, r"big-endian"),
        ({"change": {"data.pkl": None}}, r"'data\.pkl' is missing"),
        ({"compression": zipfile.ZIP_DEFLATED}, r"is compressed"),
        ({"pickled": b"\x80\x02" + b"N" * _torch_file.MOST_PICKLE}, r"it may have 1048576"),
    ],
)
def test_an_archive_that_torch_would_not_write_is_refused(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        _torch_file.read(archive(tmp_path / "a.pt", **changes))


def test_a_file_from_before_torch_1_6_is_told(tmp_path):
    torch.save({"w": torch.ones(2)}, tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(ValueError, match=r"a\.pt is damaged, or older than torch 1\.6"):
        _torch_file.read(tmp_path / "a.pt")
    assert not _torch_file.is_torch(tmp_path / "a.pt")
