"""A run that begins from the dictionaries of another."""

import jax

from dictlearn import sharding
from dictlearn.learners import with_variables
from dictlearn.normalise import Norm
from dictlearn.runs import fold
from dictlearn.runs.trained import restore_run


def warm_start(states: dict, norm: Norm, mesh, workdir: str, program: str | None = None) -> dict:
    """`states` of a new run with the variables of the dictionaries of `workdir`, as they are under `norm`:
    moments and counts begin anew. Each program starts from that of its name or, if it is given, all from
    `program`.

    Raises ValueError for a program that the run in `workdir` has not, for other shapes, and for another kind
    of normalisation."""
    run = restore_run(workdir, mesh)
    same = run.norm == norm
    if not same and (run.norm.kind != norm.kind or norm.kind == "whiten" or norm.by_source):
        raise ValueError(
            f"{workdir} was trained under {run.norm.kind}, which cannot become {norm.kind}; set "
            "stream.normalise to that kind, and to one that is a number."
        )
    ratio = run.norm.scale_in / norm.scale_in, run.norm.scale_out / norm.scale_out
    change = Norm(norm.kind, *ratio)
    modules = {p.key: p.module_of(0) for p in run.programs}
    found = {}
    for key, state in states.items():
        source = program or key
        if source not in modules:
            raise ValueError(
                f"{workdir} holds {', '.join(modules)}; there is no {source} to start from. "
                "start.program takes the name of one of them."
            )
        old = run.variables[source]
        old = old if same else fold.raw(change, modules[source], old)
        shapes = [jax.tree.map(lambda leaf: leaf.shape, tree) for tree in (old, state.variables)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"{source} of {workdir} has shapes {shapes[0]}, not {shapes[1]}.")
        placed = sharding.shardings(state.variables, mesh, lead="N")
        # Copies: programs that start from the same dictionaries each give theirs away at their first step.
        found[key] = with_variables(state, jax.device_put(old, placed, may_alias=False))
    return found
