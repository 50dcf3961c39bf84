"""Where latents of an attention dictionary get an activation from: the tokens that its heads read, one by one.

    DFA_i[h, s] = A^h[t, s] <v_s^h, w_i^h>         at one destination t of each latent

Summed over heads and sources it is the pre-activation at t without the biases (`circuits/heads.py`).
Axes: P a pair of a latent and a destination, S a source token; h as in `circuits/heads.py`.
"""

import dataclasses
from collections.abc import Callable, Iterator

import jax
import numpy as np

from dictlearn.circuits import heads
from dictlearn.lm import LM

_PAIRS = 16


def at(
    lm: LM, layer: int, tokens_ST: np.ndarray, place_P: np.ndarray, rows_PH: np.ndarray
) -> Iterator[np.ndarray]:
    """The attribution of pre-activations to heads and source tokens.

    Args:
        lm: a decoder.
        layer: the layer of the heads.
        tokens_ST: the text.
        place_P: the destinations, sequence * T + position.
        rows_PH: the encoder row of the latent of each pair, which reads raw activations.

    Yields:
        `[h, T]` for each pair, zero at tokens after the destination.
    """
    attributed = _program(lm, layer)
    for start in range(0, len(place_P), _PAIRS):
        own = np.arange(start, min(start + _PAIRS, len(place_P)))
        given = np.resize(own, _PAIRS)  # One shape, so that one program is compiled.
        sequence_P, position_P = np.divmod(place_P[given], tokens_ST.shape[1])
        tokens_PT = np.asarray(tokens_ST[sequence_P])
        part_PhT = np.asarray(attributed(lm.params, tokens_PT, rows_PH[given], position_P))
        yield from part_PhT[: len(own)]


def _program(lm: LM, layer: int) -> Callable:
    @jax.jit
    def attributed(params, tokens_PT, rows_PH, position_P):
        own = dataclasses.replace(lm, params=params)
        in_PTD = lm.forward(params, tokens_PT)[1][f"attn_in.{layer}"]
        one = lambda in_TD, row_H, t: heads.by_source(own, layer, in_TD[None], row_H)[0, :, t]
        return jax.vmap(one)(in_PTD, rows_PH, position_P)

    return attributed
