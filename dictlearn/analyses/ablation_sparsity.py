"""Ablation sparsity: how few of the model's predictions a latent moves.

    delta     the logits of the next tokens without the latent, less those with it, [T, V]
    sparsity  (sum |delta| / sqrt(sum delta^2))^2 / (T V),      delta less its median over V at each position

The latent is removed at one token where it fires; the error of the reconstruction stays. The sparsity is
1 / (T V) if one logit moves and 2 / pi if all move as a Gaussian; lower is more local. Beside it is the same
for single dimensions of the activation, set to zero at random tokens.

A latent is drawn uniformly among those that fire, and then a token at which it fires.

Source: Gao et al. 2024 (arXiv:2406.04093), section 4.5: T = 16. UNSURE: its draw of latents and tokens.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dictlearn import normalise
from dictlearn.analyses._blocks import Block, blocks
from dictlearn.analyses._result import Result, Table
from dictlearn.analyses._subject import Subject, dense_codes, exactly
from dictlearn.experiment.models import SEQUENCES
from dictlearn.lm import LM, splice
from dictlearn.runs.trained import Trained
from dictlearn.types import Codes

NEEDS = ("model", "origin")
_PAIRS = 8


class Pairs(NamedTuple):
    """Tokens at which something is removed: their row in the block, and what is added to the activation."""

    row_P: np.ndarray
    delta_PD: np.ndarray


def ablation_sparsity(subjects: Sequence[Subject], *, n: int = 64, window: int = 16) -> Result:
    """The ablation sparsity of every dictionary of a run.

    Args:
        subjects: one run on the activations of a language model.
        n: the number of latents that are drawn, each at one token of the first held-out sequences.
        window: the number of predictions that are read, from the token's own on.

    Returns:
        A Result with `rows`, one for each dictionary and one for the dimensions of the activation.

    Raises:
        ValueError: for a run on several models, a window longer than the sequences, and a dictionary that
            never fires.
    """
    (subject,) = exactly(1, subjects, "ablation_sparsity")
    read = blocks(subject, 10**9, 0, ())
    block = read.read(0)
    if block.text is None:
        raise ValueError(f"{subject.name} needs the taps of one language model; set model.")
    length = block.text[0].shape[1]
    if not (1 <= window < length and n > 0):
        raise ValueError(f"{window=} must be from 1 to {length - 1}, and {n=} positive.")
    room_B = block.mask_B & (np.arange(len(block.mask_B)) % length <= length - window)
    measure = _program(subject.lm, read.written, block.text, block.y_BD, window)
    chosen = sorted(subject.trained, key=lambda one: one.name)
    found = {one.name: measure(_latents(one, block, room_B, n)) for one in chosen}
    found["single dimensions"] = measure(_dimensions(block, room_B, n))
    rows = [
        {"of": name, "sparsity": sparsity_P.mean(), "drawn": len(sparsity_P)}
        | {"low": np.quantile(sparsity_P, 0.05), "high": np.quantile(sparsity_P, 0.95)}
        for name, sparsity_P in found.items()
    ]
    columns = ("of", "ablation sparsity", "drawn", "5 %", "95 %")
    table = Table("Ablation sparsity", columns, [[*row.values()] for row in rows])
    return Result({"rows": rows}, [table])


def spread(delta_TV: Float[Array, "..."]) -> Float[Array, ""]:
    """The squared ratio of the sum of magnitudes to the length, as a share of its largest value.

    Args:
        delta_TV: the changes.

    Returns:
        From 1 / size, where one entry is not zero, to 1, where all have one magnitude; NaN for zeros.
    """
    unit = delta_TV / jnp.abs(delta_TV).max()
    return jnp.abs(unit).sum() ** 2 / (unit**2).sum() / delta_TV.size


def _program(
    lm: LM, written: Sequence[str], text: tuple[jax.Array, jax.Array], y_BD: np.ndarray, window: int
) -> Callable[[Pairs], np.ndarray]:
    """A function of pairs that returns their sparsity. One program serves all dictionaries."""
    tokens_ST, mask_ST = text
    y_STD = jnp.asarray(y_BD).reshape(*tokens_ST.shape, -1)
    run = lambda params, *given: splice.run(lm.forward, written, params, *given)[0]
    plain_STV = jax.jit(run)(lm.params, tokens_ST, mask_ST, y_STD, y_STD)
    cut = jax.vmap(lambda logits_TV, t: jax.lax.dynamic_slice_in_dim(logits_TV, t, window))

    @jax.jit
    def sparsity(params, plain_STV, s_P, t_P, delta_PD):
        old_PTD = y_STD[s_P]
        new_PTD = old_PTD.at[jnp.arange(len(s_P)), t_P].add(delta_PD)
        logits_PTV = run(params, tokens_ST[s_P], mask_ST[s_P], old_PTD, new_PTD)
        delta_PTV = cut(logits_PTV, t_P) - cut(plain_STV[s_P], t_P)
        delta_PTV = delta_PTV.astype(jnp.float32)
        return jax.vmap(spread)(delta_PTV - jnp.median(delta_PTV, axis=-1, keepdims=True))

    def measure(pairs: Pairs) -> np.ndarray:
        s_P, t_P = np.divmod(pairs.row_P, tokens_ST.shape[1])
        found = []
        for start in range(0, len(s_P), _PAIRS):
            now = np.arange(start, min(start + _PAIRS, len(s_P)))
            p = np.resize(now, _PAIRS)  # One shape, so that one program is compiled.
            one = sparsity(lm.params, plain_STV, s_P[p], t_P[p], pairs.delta_PD[p])
            found.append(np.asarray(one)[: len(now)])
        sparsity_P = np.concatenate(found)
        return sparsity_P[np.isfinite(sparsity_P)]

    return measure


def _latents(one: Trained, block: Block, room_B: np.ndarray, n: int) -> Pairs:
    """Latents that fire where there is room, each at one of its tokens, and what their removal changes."""
    fires_BF = (dense_codes(one, block.x_BD) != 0) & room_B[:, None]
    random, alive = np.random.default_rng(0), np.flatnonzero(fires_BF.any(0))
    if not len(alive):
        raise ValueError(
            f"{one.name} fires on no token of {SEQUENCES} sequences, so none of its latents can be removed."
        )
    latent_P = random.permutation(alive)[:n]
    row_P = np.array([random.choice(np.flatnonzero(fires_BF[:, i])) for i in latent_P])
    _, undo = normalise.forward(one.norm, block.x_BD[row_P])
    with_PF = jnp.asarray(dense_codes(one, block.x_BD[row_P]))
    without_PF = with_PF.at[jnp.arange(len(row_P)), latent_P].set(0)
    decode = lambda f_PF, own: undo(one.module.apply(own, Codes(f_PF), method="decode"))
    decoded = [np.asarray(jax.jit(decode)(f_PF, one.variables)) for f_PF in (without_PF, with_PF)]
    return Pairs(row_P, decoded[0] - decoded[1])


def _dimensions(block: Block, room_B: np.ndarray, n: int) -> Pairs:
    """Single dimensions of the activation, each set to zero at a random token with room."""
    random, width = np.random.default_rng(0), block.y_BD.shape[1]
    row_P = random.choice(np.flatnonzero(room_B), n)
    is_PD = random.integers(width, size=n)[:, None] == np.arange(width)
    return Pairs(row_P, np.where(is_PD, -block.y_BD[row_P], 0).astype(np.float32))
