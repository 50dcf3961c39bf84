"""GGUF files come back as written, and damaged ones are refused by name."""

import struct
import sys

import numpy as np
import pytest

from dictlearn.lm import gguf

from . import gguf_files
from .gguf_files import F16, F32, Q4_1, Q8_0

RNG = np.random.default_rng(0)
VALUES = RNG.normal(size=(3, 64)).astype(np.float32)


def q8_0_by_definition(raw: bytes) -> list[float]:
    values = []
    for start in range(0, len(raw), 34):
        scale, *quants = struct.unpack("<e32b", raw[start : start + 34])
        values += [scale * quant for quant in quants]
    return values


def q4_1_by_definition(raw: bytes) -> list[float]:
    values = []
    for start in range(0, len(raw), 20):
        scale, low, *pairs = struct.unpack("<2e16B", raw[start : start + 20])
        nibbles = [pair % 16 for pair in pairs] + [pair // 16 for pair in pairs]
        values += [scale * nibble + low for nibble in nibbles]
    return values


def read_one(path, kind, shape, encoded):
    _, tensors = gguf.read(gguf_files.write(path, {}, {"w": (kind, shape, encoded)}))
    return gguf.dequantise(tensors["w"])


@pytest.fixture
def small(tmp_path):
    """A small file with a bit of everything."""
    metadata = {"general.name": "a name", "n": np.uint32(7), "words": ["a", "b"]}
    tensors = {
        "norm": (F32, (4,), np.arange(4, dtype=np.float32).tobytes()),
        "w": (Q4_1, (3, 64), gguf_files.q4_1(VALUES)),
    }
    return gguf_files.write(tmp_path / "small.gguf", metadata, tensors)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_unquantised_tensors_come_back_exactly(tmp_path, dtype):
    values = VALUES.astype(dtype)
    kind = {np.float32: F32, np.float16: F16}[dtype]
    read = read_one(tmp_path / "w.gguf", kind, values.shape, values.tobytes())
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, values)


@pytest.mark.parametrize(
    ("kind", "encode", "decode"),
    [(Q8_0, gguf_files.q8_0, q8_0_by_definition), (Q4_1, gguf_files.q4_1, q4_1_by_definition)],
)
def test_quantised_tensors_follow_their_definition(tmp_path, kind, encode, decode):
    encoded = encode(VALUES)
    read = read_one(tmp_path / "w.gguf", kind, VALUES.shape, encoded)
    assert read.dtype == np.float32
    np.testing.assert_allclose(read.ravel(), decode(encoded), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("kind", "encode", "n_steps"), [(Q8_0, gguf_files.q8_0, 254), (Q4_1, gguf_files.q4_1, 15)]
)
def test_quantised_values_come_back_within_half_a_step(tmp_path, kind, encode, n_steps):
    read = read_one(tmp_path / "w.gguf", kind, VALUES.shape, encode(VALUES))
    blocks = VALUES.reshape(-1, 32)
    width = 2 * np.abs(blocks).max(1) if kind == Q8_0 else np.ptp(blocks, axis=1)
    error = np.abs(read.reshape(-1, 32) - blocks).max(1)
    # A float16 step may be 2^-11 of itself short, at each of n_steps steps.
    assert np.all(error <= width / n_steps * (0.5 + n_steps / 2**11))


def test_metadata_of_every_type_comes_back(tmp_path):
    scalars = {kind: np.array(RNG.integers(0, 100), kind)[()] for kind in gguf_files.SCALARS}
    arrays = {f"{kind}s": np.arange(3).astype(kind) for kind in gguf_files.SCALARS}
    words = {"word": "Ünïcode", "words": ["", "two words"]}
    metadata, tensors = gguf.read(
        gguf_files.write(tmp_path / "m.gguf", {**scalars, **arrays, **words}, {})
    )
    assert tensors == {}
    expected = {key: value.tolist() for key, value in {**scalars, **arrays}.items()} | words
    assert metadata == expected


def test_an_alignment_of_its_own_is_followed(tmp_path):
    metadata = {"general.alignment": np.uint32(128)}
    tensors = {name: (F32, (3,), np.full(3, i, "<f4").tobytes()) for i, name in enumerate("abc")}
    path = gguf_files.write(tmp_path / "a.gguf", metadata, tensors, alignment=128)
    _, read = gguf.read(path)
    assert [gguf.dequantise(read[name]).tolist() for name in "abc"] == [[0] * 3, [1] * 3, [2] * 3]


def test_a_file_cut_anywhere_is_refused_by_name(small):
    whole = small.read_bytes()
    for length in range(len(whole)):
        small.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"small\.gguf: "):
            gguf.read(small)


def test_a_file_with_a_wrong_byte_is_read_or_refused_and_never_crashes(small):
    whole = small.read_bytes()
    refusals = []
    for at in range(len(whole) - 240):  # the header; the last 240 bytes are the quantised tensor
        small.write_bytes(whole[:at] + bytes([whole[at] ^ RNG.integers(1, 256)]) + whole[at + 1 :])
        try:
            _, tensors = gguf.read(small)
            for tensor in tensors.values():
                gguf.dequantise(tensor)
        except ValueError as error:
            refusals.append(str(error))
    assert len(refusals) > 50
    assert all(refusal.startswith(f"{small}: ") for refusal in refusals)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda raw: b"PK\x03\x04" + raw[4:], r"b'PK\\x03\\x04'.*b'GGUF'"),
        (lambda raw: raw[:4] + b"\x02" + raw[5:], r"\b2\b.*\b3\b"),
        (lambda raw: raw[:-1], r"'w'.*\d+"),
        (lambda raw: b"", "empty"),
    ],
)
def test_damage_is_named(small, damage, message):
    small.write_bytes(damage(small.read_bytes()))
    with pytest.raises(ValueError, match=message):
        gguf.read(small)


def test_an_unknown_tensor_type_lists_the_known(tmp_path):
    path = gguf_files.write(tmp_path / "k.gguf", {}, {"w": (99, (256,), bytes(210))})
    known = r"unknown type 99; known: F32 \(0\), F16 \(1\), Q4_0 \(2\), .* `pip install gguf`"
    with pytest.raises(ValueError, match=known):
        gguf.read(path)


def test_a_row_that_does_not_divide_into_blocks_is_refused(tmp_path):
    path = gguf_files.write(tmp_path / "b.gguf", {}, {"w": (Q8_0, (2, 48), bytes(102))})
    with pytest.raises(ValueError, match=r"\(2, 48\).*Q8_0.*\b32\b"):
        gguf.read(path)


@pytest.mark.parametrize("name", ["Q4_0", "Q5_0", "Q8_0", "BF16"])
def test_what_the_gguf_package_quantises_comes_back_as_it_dequantises_it(tmp_path, name):
    package = pytest.importorskip("gguf")
    kind = package.GGMLQuantizationType[name]
    encoded = package.quants.quantize(VALUES, kind)
    _, tensors = gguf.read(
        gguf_files.write(tmp_path / "w.gguf", {}, {"w": (int(kind), (3, 64), encoded.tobytes())})
    )
    expected = package.quants.dequantize(encoded, kind)
    np.testing.assert_allclose(gguf.dequantise(tensors["w"]), expected, rtol=1e-6)
    rows = np.array([2, 0])
    np.testing.assert_allclose(gguf.dequantise(tensors["w"], rows), expected[rows], rtol=1e-6)


def test_a_type_of_the_gguf_package_says_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    path = gguf_files.write(tmp_path / "k.gguf", {}, {"w": (14, (256,), bytes(210))})
    with pytest.raises(ValueError, match=r"\b14\b.*F32.*`pip install gguf`"):
        gguf.read(path)
