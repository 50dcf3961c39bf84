"""Warm start: a new run starts from the dictionaries of another run, or from a published dictionary."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dictlearn import sharding
from dictlearn.learners import with_variables
from dictlearn.normalise import SCALAR_KINDS, Norm
from dictlearn.runs.fold import fold_normalisation
from dictlearn.runs.trained import Trained, restore_run
from dictlearn.types import Dictionary

__all__ = ["warm_start"]


class Known(NamedTuple):
    """The dictionaries from which a run starts.

    Args:
        where: their path, for messages.
        norm: the normalisation under which they were trained.
        modules, variables: of each program of a run, by its key; {"": ...} for a single dictionary.
            Leaves have a leading axis N.
    """

    where: str
    norm: Norm
    modules: Mapping[str, Dictionary]
    variables: Mapping[str, Any]


def of_run(workdir: str, mesh) -> Known:
    """The dictionaries of a run.

    Args:
        workdir: the workdir of the run.
        mesh: the mesh on which they are placed.

    Returns:
        The dictionaries, by program.

    Raises:
        FileNotFoundError: where the workdir holds no checkpoint.
    """
    run = restore_run(workdir, mesh)
    return Known(workdir, run.norm, {p.key: p.module_of(0) for p in run.programs}, run.variables)


def of_trained(trained: Trained, where: str, mesh) -> Known:
    """One dictionary, from which every program starts.

    Args:
        trained: the dictionary.
        where: its path, for messages.
        mesh: the mesh on which it is placed, whole on every device.

    Returns:
        The dictionary, under the key "".
    """
    one = jax.tree.map(lambda leaf: np.asarray(leaf)[None], dict(trained.variables))
    one = jax.device_put(one, sharding.everywhere(mesh))
    return Known(where, trained.norm, {"": trained.module}, {"": one})


def warm_start(states: dict, norm: Norm, mesh, known: Known, program: str | None = None) -> dict:
    """The states of a new run, with the variables of known dictionaries.

    Parameters and statistics (thresholds, means) are restored; moments and counters start from zero. A
    program of several members starts from as many dictionaries, or all its members from one.

    Args:
        states: the initial states, by program.
        norm: the normalisation of the new run; the variables are converted to it.
        mesh: the mesh of the new run.
        known: the dictionaries.
        program: the program of `known` from which all start; None for the program of the same name.

    Returns:
        The states, by program.

    Raises:
        ValueError: for a program that is not there, for other leaves or shapes, and for a normalisation
            that cannot be converted.
    """
    change = _conversion(known, norm)
    found = {}
    for key, state in states.items():
        source = program or ("" if "" in known.modules else key)
        if source not in known.modules:
            raise ValueError(
                f"{known.where} holds {', '.join(known.modules)}, but no {source} to start from; "
                "set start.program to one of these names."
            )
        module = known.modules[source]
        old = fold_normalisation(change, module, known.variables[source])
        old = _fitted(
            old, state.variables, module, f"{source or 'the dictionary'} of {known.where}"
        )
        placed = sharding.shardings(state.variables, mesh, lead="N")
        # Copies: programs that start from the same dictionaries each donate their state at the first step.
        found[key] = with_variables(state, jax.device_put(old, placed, may_alias=False))
    return found


def _conversion(known: Known, norm: Norm) -> Norm:
    """The normalisation which, folded into the variables, converts them."""
    if known.norm == norm:
        return Norm()
    both = (known.norm, norm)
    if any(one.kind not in SCALAR_KINDS or one.by_source for one in both):
        raise ValueError(
            f"{known.where} was trained under {known.norm.kind}, which cannot be converted to {norm.kind}; "
            f"set stream.normalise to {known.norm.kind}, or both to one of {', '.join(SCALAR_KINDS)}."
        )
    ratio = known.norm.scale_in / norm.scale_in, known.norm.scale_out / norm.scale_out
    return Norm("unit_mean_sq", *ratio)


def _fitted(old, new, module: Dictionary, where: str):
    """The variables with as many members as the new ones have. Raises ValueError for other leaves or shapes."""
    leaves = jax.tree_util.tree_leaves_with_path
    was, now = ({jax.tree_util.keystr(k): leaf.shape for k, leaf in leaves(t)} for t in (old, new))
    wrong = [
        f"{name} is {was.get(name)}, not {now.get(name)}"
        for name in sorted(was.keys() | now.keys())
        if was.get(name) not in (now.get(name), (1, *now.get(name, ())[1:]))
    ]
    if wrong:
        raise ValueError(
            f"{where} does not fit config.dictionary: {'; '.join(wrong)}. It is {module!r}."
        )
    return jax.tree.map(lambda a, b: jnp.broadcast_to(a, b.shape), old, new)
