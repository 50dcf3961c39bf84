"""The splice: a language model with functions at its taps, and its three runs (original, spliced, ablated).

    original    the model        spliced    something else at the taps        ablated    zero at the taps

Masked tokens keep their activations in all three. Losses of the runs are `meters.loss_recovered`'s.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from dictlearn.lm import edits

RUNS = ("original", "spliced", "ablated")


def side_by_side(taps: Mapping[str, jax.Array], names: Sequence[str]) -> jax.Array:
    """The activations at these taps as one array `[S, T, D]`."""
    return jnp.concatenate([taps[name] for name in names], axis=-1)


def run(
    forward: Callable, names: Sequence[str], params: Any, tokens_ST, mask_ST, old_STD, new_STD
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Logits `[S, T, V]` and taps of the model with `new_STD` at the taps `names`, side by side, and `old_STD`
    where tokens are masked. What stands at the taps is given, so nothing that leads to them alone is computed.

    forward: `LM.forward`. old_STD: what the model itself has there."""
    whole_STD = jnp.where(mask_ST[..., None], new_STD, old_STD)
    parts = zip(names, jnp.split(whole_STD, len(names), axis=-1), strict=True)
    put = {name: lambda *_, part=part: part for name, part in parts}
    return forward(params, tokens_ST, edits=put, mask_BT=mask_ST)


def runs(
    forward: Callable,
    params: Any,
    tokens_ST,
    mask_ST,
    change: Mapping[str, edits.Edit],
    written: Iterable[str],
) -> dict[str, jax.Array]:
    """The logits of the three runs, the spliced one under the edits `change`; `written`: taps that are zero
    in the ablated one."""
    zero = {name: edits.zero() for name in written}
    logits = lambda put: forward(params, tokens_ST, edits=put, mask_BT=mask_ST)[0]
    return {"original": logits({}), "spliced": logits(change), "ablated": logits(zero)}
