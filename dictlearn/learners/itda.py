"""ITDA: a dictionary of the tokens that it did not explain when they were read, without gradients.

    l(x) = |x - xhat|^2 / |x|^2        D <- D u {x / |x|} for the tokens with l(x) > tau

Each atom keeps its key, the sequence and the position of its token. Dictionaries of two models that read the
same text in the same order can then be compared by their keys only (analyses/similarity.py), in any basis.

`tolerance` is tau, which decides the size. Alternatively, `size` decides it: at step t of T the dictionary may
hold size (t / T)^(1/4) atoms, which is about its growth under a fixed tau. The tokens of largest l(x) fill the
free rows, so tau is found batch by batch and the size is reached. With both, a token must meet both conditions.
If tokens compete for the last rows, the tokens with the largest l(x) win. At the same size, a lower tau that
fills the rows with the first tokens reconstructs better than the tau that just fills them
(experiments/itda_vs_sae.py). But only the latter has atoms that represent the whole data.

Source: Leask et al. 2025, "Inference-Time Decomposition of Activations", section 3.3 and Algorithm 1.

Differs: l is relative to |x|^2, because the norms of tokens differ by orders of magnitude (the paper's is
absolute, and its input scale is not stated). Duplicates are removed within their batch (cosine above
`duplicate_cosine` with an earlier token that also failed), not afterwards: an existing atom explains its
duplicate. The dictionary starts empty, not with common tokens. The number of rows is fixed. `size` is
ours. All tokens of a batch are compared with the dictionary before the batch, as the paper does in
practice. The cosines within a batch are `[B, B]`.
"""

from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
from jax import lax

from dictlearn.learners._finite import all_finite
from dictlearn.ops.firing import l0
from dictlearn.ops.sparse.rows import bins, rows_add
from dictlearn.types import Batch, Dictionary, Learner, Out, Scalar

READS_KEYS = True
GROWTH = 1 / 4
"""The dictionary grows to its `size` as this power of the share of the steps done."""


class State(NamedTuple):
    """variables: the module's params and stats. step: the number of updates."""

    variables: dict
    step: jax.Array


def itda(
    dictionary: Dictionary,
    *,
    steps: int,
    tolerance: Scalar | None = None,
    size: Scalar | None = None,
    duplicate_cosine: Scalar = 0.9999,
) -> Learner:
    """A learner of the dictionary `itda`.

    Args:
        dictionary: a module, from `dictionaries.make("itda", ...)`.
        steps: T, the number of steps of the run.
        tolerance: tau, a share of |x|^2, in [0, 1).
        size: the final number of atoms, at most the module's `n_latents`.
        duplicate_cosine: two tokens of a batch with a larger cosine are duplicates.

    Returns:
        A Learner that needs batches with keys. Its info has `finite`: whether every token's error is
        finite.

    Raises:
        ValueError: without tolerance and size, or for a value out of its bounds; at an update, for a
            batch without keys.

    Example:
        >>> from dictlearn import dictionaries
        >>> module = dictionaries.make("itda", d_in=4, n_latents=16, k=2)
        >>> type(itda(module, steps=100, size=16)).__name__
        'Learner'
    """
    if tolerance is None and size is None:
        raise ValueError(
            "learner itda needs tolerance, the error above which a token becomes an atom, or size."
        )
    if isinstance(tolerance, int | float) and not 0 <= tolerance < 1:
        raise ValueError(f"{tolerance=} is a share of |x|^2; it must be in [0, 1).")
    n = dictionary.n_latents
    if isinstance(size, int | float) and not 1 <= size <= n:
        raise ValueError(
            f"{size=} must be between 1 and {dictionary.n_latents=}, the number of rows."
        )

    def init(key: jax.Array, batch: Batch) -> State:
        variables = dictionary.init(key, method="declare")
        return State(dict(variables), jnp.zeros((), jnp.int32))

    def update(state: State, batch: Batch) -> tuple[State, dict]:
        if batch.sequence_B is None:
            raise ValueError("learner itda reads the keys of tokens; give the stream keys=True.")
        x_BD = batch.x_BD
        out = cast(Out, dictionary.apply(state.variables, x_BD, jnp.zeros(n, bool)))
        square_B = jnp.sum(x_BD**2, -1)
        error_B = jnp.sum((x_BD - out.y_BD) ** 2, -1)
        share_B = error_B / jnp.where(square_B > 0, square_B, 1)
        norm_B = jnp.sqrt(jnp.where(square_B > 0, square_B, 1))
        failed_B = share_B > (0 if tolerance is None else tolerance)
        failed_B &= ~_repeats(x_BD / norm_B[:, None], failed_B, duplicate_cosine)

        stats = state.variables["stats"]
        end = n
        if size is not None:
            end = jnp.minimum(n, jnp.floor(size * ((state.step + 1) / steps) ** GROWTH))
        order_B = jnp.argsort(jnp.where(failed_B, -share_B, jnp.inf))
        joins_B = failed_B & (jnp.argsort(order_B) < end - stats["n_atoms"])
        place_B = stats["n_atoms"] + jnp.cumsum(joins_B, dtype=jnp.int32) - 1
        to_B1 = jnp.where(joins_B, place_B, 0)[:, None]
        written = lambda value_B: bins((joins_B * value_B)[:, None], to_B1, n)
        atoms_FD = rows_add((joins_B / norm_B)[:, None], to_B1, x_BD, n)
        n_joined = jnp.sum(joins_B, dtype=jnp.int32)
        variables = {
            "params": {"W_dec_FD": state.variables["params"]["W_dec_FD"] + atoms_FD},
            "stats": {
                "n_atoms": stats["n_atoms"] + n_joined,
                "sequence_F": stats["sequence_F"] + written(batch.sequence_B),
                "position_F": stats["position_F"] + written(batch.position_B),
            },
        }
        info = {
            "loss": share_B.mean(),
            "explained_variance": 1 - error_B.sum() / jnp.sum((x_BD - x_BD.mean(0)) ** 2),
            "l0": l0(out.codes).mean(dtype=jnp.float32),
            "atoms": variables["stats"]["n_atoms"],
            "failed": jnp.sum(failed_B, dtype=jnp.int32),
            "least_error": jnp.min(share_B, where=joins_B, initial=1.0),
            "finite": all_finite(share_B),
        }
        return State(variables, state.step + 1), info

    return Learner(init, update, lambda state: state.variables)


def _repeats(unit_BD, failed_B, duplicate_cosine: Scalar):
    """Whether each token is a duplicate of an earlier token of the batch that also failed."""
    same_BB = lax.stop_gradient(unit_BD @ unit_BD.T) > duplicate_cosine
    return (jnp.tril(same_BB, -1) & failed_B).any(1)
