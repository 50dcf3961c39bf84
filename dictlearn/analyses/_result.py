"""The result of an analysis: values for programs, tables and figures for people."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from dictlearn.runs.workdir import finite

if TYPE_CHECKING:  # Matplotlib takes half a second to import.
    from matplotlib.figure import Figure


class Table(NamedTuple):
    """A table.

    Args:
        title: its title.
        columns: the names of its columns.
        rows: a cell for each column: text, a number, or None for no value.

    Example:
        >>> Table("Latents", ("latent", "density"), [(7, 0.1)]).rows
        [(7, 0.1)]
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


class Result(NamedTuple):
    """The result of an analysis.

    Args:
        values: a tree of numbers, text and arrays, for programs.
        tables, figures: for people, in the order in which they are shown.

    Example:
        >>> Result({"latents": 3}).tables
        ()
    """

    values: Mapping[str, Any]
    tables: Sequence[Table] = ()
    figures: "Sequence[Figure]" = ()


def plain(tree) -> Any:
    """The tree as JSON: named tuples as mappings, arrays as lists, paths as text, numbers that are not finite
    as None.
    """
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
