"""Warm start: a new run starts from the dictionaries of another run."""

import jax

from dictlearn import sharding
from dictlearn.learners import with_variables
from dictlearn.normalise import Norm
from dictlearn.runs.fold import fold_normalisation
from dictlearn.runs.trained import restore_run

__all__ = ["warm_start"]


def warm_start(states: dict, norm: Norm, mesh, workdir: str, program: str | None = None) -> dict:
    """The states of a new run, with the variables of the dictionaries of another run.

    Moments and counters start from zero.

    Args:
        states: the initial states, by program.
        norm: the normalisation of the new run; the variables are converted to it.
        mesh: the mesh of the new run.
        workdir: the workdir of the other run.
        program: the program of the other run from which all start; None for the program of the same name.

    Returns:
        The states, by program.

    Raises:
        ValueError: for a program that the other run does not have, for other shapes, and for another kind
            of normalisation.
    """
    run = restore_run(workdir, mesh)
    same = run.norm == norm
    if not same and (run.norm.kind != norm.kind or norm.kind == "whiten" or norm.by_source):
        raise ValueError(
            f"{workdir} was trained under {run.norm.kind}, which cannot be converted to {norm.kind}; "
            "set stream.normalise to the same kind, which must be a scalar kind."
        )
    ratio = run.norm.scale_in / norm.scale_in, run.norm.scale_out / norm.scale_out
    change = Norm(norm.kind, *ratio)
    modules = {p.key: p.module_of(0) for p in run.programs}
    found = {}
    for key, state in states.items():
        source = program or key
        if source not in modules:
            raise ValueError(
                f"{workdir} holds {', '.join(modules)}, but no {source} to start from; "
                "set start.program to one of these names."
            )
        old = run.variables[source]
        old = old if same else fold_normalisation(change, modules[source], old)
        shapes = [jax.tree.map(lambda leaf: leaf.shape, tree) for tree in (old, state.variables)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"{source} of {workdir} has shapes {shapes[0]}, not {shapes[1]}.")
        placed = sharding.shardings(state.variables, mesh, lead="N")
        # Copies: programs that start from the same dictionaries each donate their state at the first step.
        found[key] = with_variables(state, jax.device_put(old, placed, may_alias=False))
    return found
