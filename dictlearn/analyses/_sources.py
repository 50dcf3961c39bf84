"""Where latents of an attention dictionary get an activation from: the tokens that its heads read, one by one.

    DFA_i[h, s] = A^h[t, s] <v_s^h, w_i^h>         at one destination t of each latent

Summed over heads and sources it is the pre-activation at t without the biases (`circuits/heads.py`).
Axes: P a pair of a latent and a destination, S a source token; h as in `circuits/heads.py`.
"""

from collections.abc import Callable

import jax
import numpy as np

from dictlearn.circuits import heads
from dictlearn.lm import LM

_PAIRS = 16


def at(
    lm: LM,
    layer: int,
    tokens_ST: np.ndarray,
    place_P: np.ndarray,
    rows_PH: np.ndarray,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> np.ndarray:
    """The attribution of pre-activations to heads and source tokens.

    Args:
        lm: a decoder.
        layer: the layer of the heads.
        tokens_ST: the text.
        place_P: the destinations, sequence * T + position.
        rows_PH: the encoder row of the latent of each pair, which reads raw activations.
        progress: called with (pairs done, pairs in all).

    Returns:
        `[P, h, T]`, zero at tokens after the destination.
    """
    length = tokens_ST.shape[1]

    @jax.jit
    def attributed(params, tokens_PT, rows_PH, position_P):
        in_PTD = lm.forward(params, tokens_PT)[1][f"attn_in.{layer}"]
        one = lambda in_TD, row_H, t: heads.by_source(lm, layer, in_TD[None], row_H)[0, :, t]
        return jax.vmap(one)(in_PTD, rows_PH, position_P)

    found = np.zeros((len(place_P), lm.spec.n_heads, length), np.float32)
    for start in range(0, len(place_P), _PAIRS):
        # One shape, so that one program is compiled.
        own = np.resize(np.arange(start, min(start + _PAIRS, len(place_P))), _PAIRS)
        sequence_P, position_P = np.divmod(np.asarray(place_P, np.int64)[own], length)
        part = attributed(lm.params, np.asarray(tokens_ST[sequence_P]), rows_PH[own], position_P)
        found[own] = np.asarray(part)
        progress(min(start + _PAIRS, len(place_P)), len(place_P))
    return found
