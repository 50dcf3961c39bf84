"""Writes GGUF files: the inverse of `dictlearn.lm.gguf`, written from the specification."""

import struct
from pathlib import Path
from typing import Any

import numpy as np

F32, F16, Q4_1, Q8_0 = 0, 1, 3, 8
SCALARS = {"u1": 0, "i1": 1, "u2": 2, "i2": 3, "u4": 4, "i4": 5, "f4": 6, "b1": 7}
SCALARS |= {"u8": 10, "i8": 11, "f8": 12}


def q8_0(values: np.ndarray) -> bytes:
    """Values in blocks of 32, each as a float16 step and 32 int8 multiples of it."""
    encoded = b""
    for block in values.reshape(-1, 32):
        step = np.float16(np.abs(block).max() / 127)
        quants = np.clip(np.round(block / np.float32(step)), -127, 127).astype(np.int8)
        encoded += step.tobytes() + quants.tobytes()
    return encoded


def q4_1(values: np.ndarray) -> bytes:
    """Values in blocks of 32, each as a float16 step, a float16 minimum and 32 nibbles."""
    encoded = b""
    for block in values.reshape(-1, 32):
        low = np.float16(block.min())
        step = np.float16((block.max() - np.float32(low)) / 15)
        quants = np.clip(np.round((block - np.float32(low)) / np.float32(step)), 0, 15)
        quants = quants.astype(np.uint8)
        encoded += step.tobytes() + low.tobytes() + (quants[:16] | quants[16:] << 4).tobytes()
    return encoded


def string(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def typed(value: Any) -> bytes:
    """A metadata value with its type: str, list of str, or a numpy scalar or 1-D array."""
    if isinstance(value, str):
        return struct.pack("<I", 8) + string(value)
    if isinstance(value, list):
        return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(string, value))
    number = SCALARS[value.dtype.str[1:]]
    if np.ndim(value):
        return struct.pack("<IIQ", 9, number, len(value)) + value.tobytes()
    return struct.pack("<I", number) + value.tobytes()


def write(
    path: Path,
    metadata: dict[str, Any],
    tensors: dict[str, tuple[int, tuple[int, ...], bytes]],
    alignment: int = 32,
) -> Path:
    """`tensors` maps names to (type number, shape slowest axis first, encoded values)."""
    header = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    header += b"".join(string(key) + typed(value) for key, value in metadata.items())
    data = b""
    for name, (kind, shape, encoded) in tensors.items():
        data += bytes(-len(data) % alignment)
        header += string(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape[::-1])
        header += struct.pack("<IQ", kind, len(data))
        data += encoded
    path.write_bytes(header + bytes(-len(header) % alignment) + data)
    return path
