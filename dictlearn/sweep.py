"""Sweeps: the same learner with a leading axis N. Many dictionaries, one program, one batch.

`cells` crosses a config's lists of values; `groups` gathers the cells whose programs are the same, so that
each group is one vmapped program: whatever decides a shape is static, all else is stacked and traced.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax

from dictlearn.sharding import TABLE
from dictlearn.types import Learner


def sweep(learner: Learner) -> Learner:
    """`learner` over a leading axis N of keys, hparams and state; every member sees the same batch."""
    axis = TABLE["N"]
    return Learner(
        init=jax.vmap(learner.init, in_axes=(0, 0, None), spmd_axis_name=axis),
        update=jax.vmap(learner.update, in_axes=(0, 0, None), spmd_axis_name=axis),
        variables=learner.variables,
    )


class Group(NamedTuple):
    """Cells that share a program. static: name -> value, the same in all. traced: one dict of numbers
    a cell, all with the same names. cells: each cell's place in the order of the whole sweep."""

    static: dict
    traced: list[dict]
    cells: list[int]


def cells(lists: Mapping[str, Sequence]) -> list[dict]:
    """Every combination of the listed values, the last name varying fastest."""
    for name, values in lists.items():
        if not isinstance(values, list | tuple) or not values:
            raise ValueError(f"sweep.{name}={values!r} must be a list of at least one value.")
    return [dict(zip(lists, values, strict=True)) for values in itertools.product(*lists.values())]


def groups(cells: Sequence[dict], traceable: set[str]) -> list[Group]:
    """Cells grouped by their values of every name that is not `traceable` (or not a number)."""
    found: dict[tuple, Group] = {}
    for place, cell in enumerate(cells):
        number = {k for k, v in cell.items() if isinstance(v, int | float) and k in traceable}
        static = {k: v for k, v in cell.items() if k not in number}
        traced = {k: v for k, v in cell.items() if k in number}
        group = found.setdefault(tuple(sorted(static.items())), Group(static, [], []))
        group.traced.append(traced)
        group.cells.append(place)
    return list(found.values())
