"""Replacement models: several dictionaries spliced into a language model at once, and the loss that remains.

    original    the model
    replaced    each target tap has its dictionary's reconstruction, from the input tap of the same run
    ablated     each target tap is zero

With a transcoder for every MLP, this is the replacement model of Dunefsky et al. 2024 and Ameisen et al. 2025:
each layer reads the errors of the layers before. Masked tokens keep their activations. A cross-layer transcoder
is encoded at every layer that it writes, with zeros for layers that the pass has not reached: only a TopK over
several layers notices.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dictlearn import normalise
from dictlearn.lm import edits, splice
from dictlearn.lm.model import LM
from dictlearn.meters import loss_recovered
from dictlearn.runs.by_layer import by_layer
from dictlearn.runs.trained import Trained, place, reconstruct

SEQUENCES = 4
"""Sequences to one pass."""


def replaced(chosen: Sequence[Trained], variables: Sequence[Any]) -> dict[str, edits.Edit]:
    """The edits that put every dictionary in its place.

    Args:
        chosen: the dictionaries.
        variables: their variables.

    Returns:
        An edit for each target tap.

    Raises:
        ValueError: for two dictionaries that write to one tap.
    """
    change: dict[str, edits.Edit] = {}
    for one, own in zip(chosen, variables, strict=True):
        for target, edit in _edits(one, own).items():
            if target in change:
                raise ValueError(f"two dictionaries write {target!r}; give one of them.")
            change[target] = edit
    return change


def _edits(one: Trained, variables) -> dict[str, edits.Edit]:
    """The edit at each tap that a dictionary writes."""
    if one.module.layered and len(one.sites) == 1:
        targets = one.sites[0].target
        return {tap: _of_layer(one, variables, at) for at, tap in enumerate(targets)}
    tap, target = place(one)
    return {target: edits.through(tap, _function(one, variables))}


def _of_layer(one: Trained, variables, at: int) -> edits.Edit:
    """What a cross-layer transcoder writes at a layer."""
    module, taps = one.module, one.sites[0].tap

    def function(x_BD):
        x_BD, undo = normalise.forward(one.norm, x_BD)
        codes = module.apply(variables, jnp.asarray(x_BD), method="encode")
        return undo(module.apply(variables, x_BD, codes, at, method="written_to"))

    def edit(y_STD, mask_ST, passed):
        later = jnp.zeros_like(passed[taps[at]])
        x = [passed[tap] if m <= at else later for m, tap in enumerate(taps)]
        whole = _rows(function, jnp.concatenate(x, axis=-1))
        return edits.replace(jnp.split(whole, len(taps), axis=-1)[at])(y_STD, mask_ST, passed)

    return edit


def _function(one: Trained, variables):
    return lambda x_STD: _rows(
        lambda x_BD: reconstruct(one.module, one.norm, variables, x_BD)[0], x_STD
    )


def _rows(function, x_STD):
    """A function of rows, of sequences of them."""
    y_BD = function(x_STD.reshape(-1, x_STD.shape[-1]).astype(jnp.float32))
    return y_BD.reshape(*x_STD.shape[:-1], -1)


def passes(
    lm: LM, chosen: Sequence[Trained], tokens_ST: np.ndarray, mask_ST: np.ndarray
) -> list[dict]:
    """Runs the model with all dictionaries in place, on whole passes of SEQUENCES sequences.

    Args:
        lm: the language model.
        chosen: the dictionaries; of a set of transcoders, each layer is one.
        tokens_ST, mask_ST: the sequences.

    Returns:
        The sums of `meters.loss_recovered` over each pass.

    Raises:
        ValueError: for no dictionaries or too few sequences.
    """
    if not chosen or len(tokens_ST) < SEQUENCES:
        raise ValueError(
            f"{len(chosen)} dictionaries on {len(tokens_ST)} sequences; at least 1 on {SEQUENCES}."
        )
    lm.check_tokens(tokens_ST, "tokens_ST")
    chosen = [layer for one in chosen for layer in by_layer(one)]

    @jax.jit
    def sums(params, variables, tokens, mask):
        change = replaced(chosen, variables)
        runs = splice.runs(lm.forward, params, tokens, mask, change, change)
        take = lambda run: loss_recovered.losses(run, runs["original"], tokens, mask)
        return {name: take(run) for name, run in runs.items()}

    variables, found = [one.variables for one in chosen], []
    for start in range(0, len(tokens_ST) - SEQUENCES + 1, SEQUENCES):
        now = slice(start, start + SEQUENCES)
        given = jnp.asarray(tokens_ST[now]), jnp.asarray(mask_ST[now])
        found.append(jax.device_get(sums(lm.params, variables, *given)))
    return found


def pooled(found: Sequence[dict]) -> Mapping[str, float]:
    """CE score, KL and the other values of `meters.loss_recovered` over several passes.

    Args:
        found: their sums, from `passes`.

    Returns:
        {name: value}.
    """
    meter = loss_recovered.loss_recovered()
    return meter.result(functools.reduce(meter.update, found, meter.init()))
