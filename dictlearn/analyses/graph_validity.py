"""Attribution graphs of prompts, and how well their edges predict what interventions change.

A latent of a graph is set to zero or to twice its activation. With patterns, denominators and MLP outputs held,
the changes of all active latents and of the logits are those that the edges say, to rounding (`error`). In the
model as it is, the changes after the latent are compared with the edges alone (`direct`) and with all paths
through active latents (`total`), by their correlation (circuits/validity.py).

Computed in float64: an intervention may change a logit of 23 by less than 0.01, and float32 rounds it by 2e-5.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dictlearn.analyses._asked import interval
from dictlearn.analyses._result import Result, Table
from dictlearn.analyses._subject import Subject, last
from dictlearn.circuits.attribute import attribute, tokens
from dictlearn.circuits.influence import scores
from dictlearn.circuits.local import local
from dictlearn.circuits.validity import validity
from dictlearn.experiment.stream import origin
from dictlearn.lm import LM
from dictlearn.runs.by_layer import by_layer
from dictlearn.runs.trained import Trained

NEEDS = ("model", "origin", "transcoders")

TOKENS = 6
"""Tokens of a beginning of a held-out sequence."""


def graph_validity(
    subjects: Sequence[Subject],
    *,
    member: str = "",
    prompts: str | Sequence[str] = (),
    n_prompts: int = 2,
    n_changes: int = 50,
    seed: int = 0,
) -> Result:
    """What graphs predict of random interventions.

    Args:
        subjects: runs of transcoders of one language model's MLPs: one for each layer, or a set of all.
        member: the label of the member that each run gives, as in `replacement`.
        prompts: texts; without any, `n_prompts` beginnings of held-out sequences of the first run.
        n_prompts, n_changes, seed: their number, the interventions on each, and the seed of the draws.

    Returns:
        A Result with `rows`, one for each prompt, and `error` (the largest), `direct` and `total` (mean, half
        width of its interval over prompts).

    Raises:
        ValueError: for dictionaries that are no transcoders of MLPs, and no intervention.
    """
    if n_changes < 1 or not (prompts or n_prompts > 0):
        raise ValueError(f"{n_changes=} and {n_prompts=} must be at least 1.")
    given = [prompts] if isinstance(prompts, str) else list(prompts)
    asked = given or _begun(subjects[0], n_prompts)
    parts = [one for subject in subjects for one in by_layer(last(subject, member))]
    with jax.enable_x64(True):
        lm, own = _wide(subjects[0].lm, "params"), [_wide(one, "variables") for one in parts]
        return _result([_of_prompt(lm, own, one, n_changes, seed) for one in asked])


def _wide(one: Any, field: str) -> Any:
    """A copy of a model or a dictionary with parameters in float64."""
    widen = lambda leaf: (
        leaf.astype(jnp.float64) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf
    )
    return dataclasses.replace(one, **{field: jax.tree.map(widen, getattr(one, field))})


def _result(rows: Sequence[Mapping[str, Any]]) -> Result:
    means = {key: interval([row[key] for row in rows]) for key in ("direct", "total")}
    columns = ("prompt", "latents", "replacement", "completeness", "error", "direct", "total")
    cells = [[row[key] for key in columns] for row in rows]
    values = {"rows": rows, "error": max(row["error"] for row in rows), **means}
    return Result(values, [Table("Predicted against measured changes", columns, cells)])


def _begun(subject: Subject, n: int) -> list[list[int]]:
    """The beginnings of held-out sequences, as tokens."""
    (source, *_) = origin(subject.config) or [None]
    if source is None:
        raise ValueError(f"{subject.name} has no text; give prompts.")
    return np.asarray(source.held_out()[0][:n, :TOKENS]).tolist()


def _of_prompt(
    lm: LM, own: Sequence[Trained], prompt: str | Sequence[int], n: int, seed: int
) -> dict[str, Any]:
    """The row of a prompt."""
    model = local(lm, own, tokens(lm, prompt))
    graph = attribute(lm, own, prompt, most=max(len(model.values_N), 1))
    found, score = validity(graph, model, n, seed), scores(graph)
    mean = lambda key: float(
        np.mean([v for one in found if (v := getattr(one, key)) is not None] or [0])
    )
    return {
        "prompt": graph.prompt,
        "latents": len(graph.values_N),
        **score._asdict(),
        "error": max(one.error for one in found),
        "direct": mean("direct"),
        "total": mean("total"),
    }
