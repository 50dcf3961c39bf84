"""GPU kernels in Pallas (Triton), each the equal of a plain-JAX form that is its fallback and its oracle."""

import importlib
from collections.abc import Callable


def kernel(module: str, name: str) -> Callable:
    """The kernel `name` of a module here, which is imported when a program first takes it: Pallas is a tenth of
    what it takes to import dictlearn."""

    def form(*arrays, **fixed):
        return getattr(importlib.import_module(f"{__name__}.{module}"), name)(*arrays, **fixed)

    return form
