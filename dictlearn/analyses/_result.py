"""What an analysis gives: values for programs, tables and figures for people."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from matplotlib.figure import Figure

from dictlearn.runs.workdir import finite


class Table(NamedTuple):
    """A table with a title. rows: a cell for each column, a word, a number, or None where there is no value."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


class Result(NamedTuple):
    """values: a tree of numbers, words and arrays, for programs. tables and figures: for people, in the order
    in which they are shown."""

    values: Mapping[str, Any]
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()


def plain(tree) -> Any:
    """The tree as JSON has it: named tuples as mappings, arrays as lists, paths as words, numbers that are not
    finite as None."""
    fields = getattr(tree, "_fields", ())
    if fields:
        tree = dict(zip(fields, tree, strict=True))
    if isinstance(tree, Mapping):
        return {str(key): plain(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [plain(value) for value in tree]
    if isinstance(tree, np.ndarray | np.generic | jax.Array):
        return finite(np.asarray(tree).tolist())
    return str(tree) if isinstance(tree, Path) else finite(tree)
