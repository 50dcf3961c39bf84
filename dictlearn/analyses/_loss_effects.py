"""The effect of a latent on the loss of the next token, at tokens where it fires.

    effect = loss(head(h - f w)) - loss(head(h))

h is the residual stream after the last block, f the code, and w the atom. The head is the model's own last norm
and unembedding. A positive effect says that the latent lowers the loss. The path through later layers is left
out, as in SAEDashboard.

Axes: P a pair of a latent and a token; the others as in `dictlearn.types`.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from dictlearn.lm import LM

_SEQUENCES, _PAIRS = 16, 128


def loss_effects(
    lm: LM,
    tokens_ST: np.ndarray,
    latent_P: np.ndarray,
    place_P: np.ndarray,
    val_P: np.ndarray,
    atoms_FD: np.ndarray,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> np.ndarray:
    """The effects of latents at tokens.

    Args:
        lm: a decoder.
        tokens_ST: the text.
        latent_P, place_P, val_P: the latents, their tokens (sequence * T + position), and their codes there.
        atoms_FD: what each latent adds to the residual stream at a code of 1.
        progress: called with (pairs done, pairs in all).

    Returns:
        Effects `[P]`, in nats; NaN at the last token of a sequence, which no token follows.
    """
    length, found = tokens_ST.shape[1], np.full(len(place_P), np.nan, np.float32)
    residual, losses = _programs(lm.forward, f"resid.{lm.spec.n_layers - 1}")
    sequence_P, position_P = np.divmod(np.asarray(place_P, np.int64), length)
    wanted = np.unique(sequence_P)
    done = 0
    for start in range(0, len(wanted), _SEQUENCES):
        own_S = wanted[start : start + _SEQUENCES]
        # One shape, so that one program is compiled.
        rows_S = np.resize(own_S, min(_SEQUENCES, len(wanted)))
        h_STD = np.asarray(residual(lm.params, np.asarray(tokens_ST[rows_S])))
        mine = np.flatnonzero(np.isin(sequence_P, own_S) & (position_P < length - 1))
        for first in range(0, len(mine), _PAIRS):
            some = mine[first : first + _PAIRS]
            p = np.resize(some, _PAIRS)
            h_PD = h_STD[np.searchsorted(own_S, sequence_P[p]), position_P[p]]
            next_P = tokens_ST[sequence_P[p], position_P[p] + 1]
            without_PD = h_PD - np.asarray(val_P)[p, None] * atoms_FD[latent_P[p]]
            effect_P = losses(lm.params, without_PD, next_P) - losses(lm.params, h_PD, next_P)
            found[some] = np.asarray(effect_P)[: len(some)]
        done += int(np.isin(sequence_P, own_S).sum())
        progress(done, len(place_P))
    return found


@functools.cache
def _programs(forward: Callable, last: str) -> tuple[Callable, Callable]:
    """(the residual stream after the last block, the losses of the next tokens from it), compiled. last: the
    tap after the last block."""

    def losses(params, h_PD, next_P):
        # Nothing before the edit is needed, so nothing of it is compiled.
        edits = {last: lambda *_: h_PD[:, None]}
        logits_PV = forward(params, jnp.zeros((len(h_PD), 1), jnp.int32), edits=edits)[0][:, 0]
        log_PV = jax.nn.log_softmax(logits_PV.astype(jnp.float32))
        return -jnp.take_along_axis(log_PV, next_P[:, None], 1)[:, 0]

    return jax.jit(lambda params, tokens: forward(params, tokens)[1][last]), jax.jit(losses)
