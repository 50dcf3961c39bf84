"""A torch state dict from another library: tensors by name. The file is parsed, and no code in it is run."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dictlearn.interop import _foreign, _torch_file
from dictlearn.interop._torch_file import Tensor

MOST_NUMBERS = 1 << 16
"""The most numbers in a tensor of whole numbers, which holds sizes."""


class State(NamedTuple):
    """The content of a file: `found` holds the entries that have not been taken."""

    path: Path
    found: dict[str, Any]

    def whole(self, key: str) -> list[int]:
        """Takes a tensor of few whole numbers."""
        tensor = self.take(key)
        if not isinstance(tensor, Tensor) or tensor.storage.dtype.kind not in "iu":
            raise ValueError(f"{key} of {self.path.name} is not a tensor of whole numbers.")
        if tensor.storage.size > MOST_NUMBERS:
            raise ValueError(f"{key} of {self.path.name} has {tensor.storage.size} numbers.")
        return _torch_file.array(self.path, tensor).ravel().tolist()

    def take(self, key: str) -> Any:
        """Takes the value of a key."""
        if key not in self.found:
            there = ", ".join(sorted(self.found))
            raise ValueError(f"{self.path.name} lacks {key}; it holds {there}.")
        return self.found.pop(key)

    def shape(self, key: str) -> tuple[int, ...]:
        """The shape of a tensor."""
        tensor = self.found.get(key)
        if not isinstance(tensor, Tensor):
            there = ", ".join(sorted(self.found))
            raise ValueError(f"{self.path.name} lacks the tensor {key}; it holds {there}.")
        return tensor.shape

    def matrix(self, key: str) -> tuple[int, int]:
        """The shape of a tensor of two axes."""
        shape = self.shape(key)
        if len(shape) != 2:
            raise ValueError(f"{key} of {self.path.name} is {list(shape)}; it must have two axes.")
        return shape[0], shape[1]

    def arrays(self, wanted: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
        """Exactly these tensors, in float32; nothing else may be left."""
        _foreign.check(_told(self.found), wanted, self.path.name)
        read = lambda key: _torch_file.array(self.path, self.found[key]).astype(np.float32)
        return _foreign.finite({key: read(key) for key in wanted}, self.path.name)


def read(path: Path) -> State:
    """The state dict in a file. Raises ValueError for anything else."""
    found = _torch_file.read(path)
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise ValueError(f"{path.name} holds {type(found).__name__}, not tensors by name.")
    return State(path, found)


def _told(found: Mapping[str, Any]) -> dict[str, tuple[tuple[int, ...], str]]:
    """name -> (shape, type)."""
    tensor = lambda one: (one.shape, str(one.storage.dtype))
    return {
        key: tensor(one) if isinstance(one, Tensor) else ((), type(one).__name__)
        for key, one in found.items()
    }


def holds(path: Path, keys: Iterable[str]) -> bool:
    """Whether it is a torch file whose pickle has these names, judged without running it."""
    return _torch_file.is_torch(path) and _torch_file.texts(path).issuperset(keys)
