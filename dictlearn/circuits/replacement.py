"""Replacement models: several dictionaries spliced into a language model at once, and the loss that remains.

    original    the model            replaced    each target tap holds its dictionary's reconstruction, made of
    ablated     each holds zero                  what its own tap holds in that same run

A transcoder of every MLP makes the replacement model of Dunefsky et al. 2024 and Ameisen et al. 2025: errors of
one layer are what the next one reads. Masked tokens keep their activations.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dictlearn.lm import edits, splice
from dictlearn.lm.model import LM
from dictlearn.meters import loss_recovered
from dictlearn.runs.places import read_config
from dictlearn.runs.trained import Trained, reconstruct, restore

SEQUENCES = 4
"""Sequences to one pass."""


class Piece(NamedTuple):
    """A dictionary and the taps that it reads and writes; the same tap for an autoencoder."""

    tap: str
    target: str
    dictionary: Trained


def piece(workdir: str | Path, name: str | None = None) -> Piece:
    """The dictionary `name` of a run on a language model's activations, with the taps of its stream.

    Raises ValueError, listing what there is, for a name that it has not, or for None where it has several."""
    config = read_config(workdir)
    found = {one.name: one for one in restore(workdir)}
    if name not in found and (name is not None or len(found) > 1):
        raise ValueError(f"{workdir} has no dictionary {name!r}; choose of {', '.join(found)}.")
    stream, taps = config["stream"], config.get("harvest", {}).get("taps", ())
    tap = stream.get("tap") or (taps if isinstance(taps, str) else taps[0])
    return Piece(tap, stream.get("target") or tap, found[name or next(iter(found))])


def replaced(pieces: Sequence[Piece], variables: Sequence[Any]) -> dict[str, edits.Edit]:
    """The edits that put every piece in its place. Raises ValueError for two pieces that write to one tap."""
    change = {}
    for one, own in zip(pieces, variables, strict=True):
        if one.target in change:
            raise ValueError(f"two dictionaries write {one.target!r}; give one of them.")
        change[one.target] = edits.through(one.tap, _function(one, own))
    return change


def _function(one: Piece, variables):
    module, norm = one.dictionary.module, one.dictionary.norm

    def function(x_STD):
        x_BD = x_STD.reshape(-1, x_STD.shape[-1]).astype(jnp.float32)
        yhat_BD, _ = reconstruct(module, norm, variables, x_BD)
        return yhat_BD.reshape(*x_STD.shape[:-1], -1)

    return function


def measure(
    lm: LM, pieces: Sequence[Piece], tokens_ST: np.ndarray, mask_ST: np.ndarray
) -> Mapping[str, float]:
    """CE score, KL and the rest of `meters.loss_recovered`, with all `pieces` in place, on whole passes of
    SEQUENCES sequences. Raises ValueError for no pieces or too few sequences."""
    if not pieces or len(tokens_ST) < SEQUENCES:
        raise ValueError(
            f"{len(pieces)} pieces on {len(tokens_ST)} sequences; at least 1 on {SEQUENCES}."
        )

    @jax.jit
    def sums(params, variables, tokens, mask):
        change = replaced(pieces, variables)
        runs = splice.runs(lm.forward, params, tokens, mask, change, change)
        take = lambda run: loss_recovered.losses(run, runs["original"], tokens, mask)
        return {name: take(run) for name, run in runs.items()}

    variables = [one.dictionary.variables for one in pieces]
    meter = loss_recovered.loss_recovered()
    totals = meter.init()
    for start in range(0, len(tokens_ST) - SEQUENCES + 1, SEQUENCES):
        chosen = slice(start, start + SEQUENCES)
        found = sums(
            lm.params, variables, jnp.asarray(tokens_ST[chosen]), jnp.asarray(mask_ST[chosen])
        )
        totals = meter.update(totals, jax.device_get(found))
    return meter.result(totals)
