"""Sweeps: the same learner with a leading axis N. Many dictionaries, one program, one batch.

`cells` crosses a config's lists of values; `groups` gathers the cells whose programs are the same, so that
each group is one vmapped program: whatever decides a shape is static, all else is stacked and traced.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from dictlearn.sharding import TABLE, axis_size, is_split
from dictlearn.types import Learner


def sweep(learner: Learner) -> Learner:
    """`learner` over a leading axis N of keys, hparams and state; every member sees the same batch.

    Members are updated side by side, by `vmap`; on one CPU device one after another, in a loop inside the
    program: each then takes its own branches and loops as long as its own k, temporaries are one member's,
    and no gather or scatter has a batch axis, for which XLA's CPU code is slow. Measured on 2 cores, D 512,
    F 4096, k 32, batch 2048: 0.69 of the processor time, and 0.16 of the temporaries of six members."""
    axis = TABLE["N"]
    over = lambda function: jax.vmap(function, in_axes=(0, 0, None), spmd_axis_name=axis)
    beside = over(learner.update)

    def after(state, hparams, batch):
        return _in_turn(learner.update, state, hparams, batch)

    def update(state, hparams, batch):
        if is_split() or axis_size(axis) > 1:
            return beside(state, hparams, batch)
        return lax.platform_dependent(state, hparams, batch, cpu=after, default=beside)

    return Learner(over(learner.init), update, learner.variables)


def _in_turn(update, state, hparams, batch):
    n_members = len(jax.tree.leaves(state)[0])

    def one(state, turn):
        n, hparams = turn
        take = lambda: jax.tree.map(lambda a: lax.dynamic_index_in_dim(a, n, keepdims=False), state)
        none = lambda: jax.tree.map(lambda a: jnp.zeros(a.shape[1:], a.dtype), state)
        # Always taken. A slice that is no branch is computed again by each of its readers, and XLA then
        # copies the moments of all members at every turn, as some are read after others are written.
        own = lax.cond(n < n_members, take, none)
        new, info = update(own, hparams, batch)
        put = lambda all, one: lax.dynamic_update_index_in_dim(all, one, n, 0)
        return jax.tree.map(put, state, new), info

    return lax.scan(one, state, (jnp.arange(n_members), hparams))


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
