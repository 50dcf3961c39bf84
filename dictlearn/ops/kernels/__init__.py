"""GPU kernels in Pallas (Triton), each equal to a plain JAX form, which is its fallback and its reference."""

import importlib
from collections.abc import Callable


def kernel(module: str, name: str) -> Callable:
    """The kernel `name` of a module of this folder. The module is imported when a program first uses it,
    because the import of Pallas takes a tenth of the time of importing dictlearn."""

    def form(*arrays, **fixed):
        return getattr(importlib.import_module(f"{__name__}.{module}"), name)(*arrays, **fixed)

    return form
