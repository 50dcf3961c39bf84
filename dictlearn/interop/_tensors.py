"""safetensors files of the complete layout (interop/_layout.py), with the header in the metadata as
`dictlearn`: the format of that name, and the weights of others.
"""

import json
from pathlib import Path

import numpy as np
from safetensors import safe_open

from dictlearn import files
from dictlearn.interop import _layout, _note
from dictlearn.runs.trained import Trained

TYPES = {"F16": "float16", "F32": "float32", "F64": "float64", "BOOL": "bool", "BF16": "bfloat16"}
TYPES |= {
    f"{kind[0].upper()}{bits}": f"{kind}{bits}"
    for kind in ("int", "uint")
    for bits in (8, 16, 32, 64)
}


def load(path: Path) -> Trained:
    """The dictionary in a file. Raises ValueError for a tensor that is not in the header."""
    with safe_open(path, "numpy") as file:
        shapes = {}
        for name in file.keys():  # noqa: SIM118 - it has no other way to list them
            told = file.get_slice(name)
            shapes[name] = tuple(told.get_shape()), TYPES.get(told.get_dtype(), told.get_dtype())
        return _layout.unpack(json.loads(file.metadata()[_note.NOTE]), shapes, file.get_tensor)


def save(trained: Trained, path: Path) -> None:
    """Writes a file. Raises ValueError for a dictionary whose class is not in dictionaries/."""
    header, arrays = _layout.pack(trained)
    whole = {name: np.array(array, order="C") for name, array in arrays.items()}
    files.save_tensors(whole, path, {_note.NOTE: json.dumps(header)})
