"""ITDA: a dictionary of the tokens that the dictionary so far did not explain. No gradients, no parameters.

    l(x) = |x - xhat|^2 / |x|^2        D <- D u {x / |x|} for the tokens with l(x) > tau

Each atom keeps its key, the sequence and the position of its token: dictionaries of two models that read the
same text in the same order are compared by their keys alone (analyses/similarity.py), whatever their axes are.

`tolerance` is tau, and decides the size. `size` decides it instead: by step t of T the dictionary may hold
size (t / T)^(1/4) atoms, about as it grows under a fixed tau, and the tokens of largest l(x) take what room
there is: tau is found batch by batch, and the size is met. With both, a token must pass both. Of tokens that
compete for the last rows the largest l(x) win. At one size, a lower tau that fills the rows from the first
tokens reconstructs better than the tau that just fills them (experiments/itda_vs_sae.py); but only the latter
says by its atoms what the data has.

Source: Leask et al. 2025, "Inference-Time Decomposition of Activations", section 3.3 and Algorithm 1. Differs:
l is relative to |x|^2, as tokens' norms differ by orders of magnitude (the paper's is absolute, its input
scale unsaid); duplicates are left out of the batch that brings them (cosine above `alike` with an earlier
token that also failed), not filtered out afterwards: an atom already there explains its duplicate; it begins
empty, not from common tokens; rows are of fixed number; `size` is ours. Tokens of a batch are all judged by the
dictionary before it, which the paper does in practice. The cosines within a batch are `[B, B]`.
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
"""The power of the share of the steps done with which a dictionary grows to its `size`."""


class State(NamedTuple):
    """variables: the module's params and stats. step: updates done."""

    variables: dict
    step: jax.Array


def itda(
    dictionary: Dictionary,
    *,
    steps: int,
    tolerance: Scalar | None = None,
    size: Scalar | None = None,
    alike: float = 0.9999,
) -> Learner:
    """A learner of the variant `itda`.

    steps: T. tolerance: tau, a share of |x|^2. size: atoms wanted in the end, at most the module's
    `n_latents`. alike: cosine above which two tokens of a batch are the same. Info says by `finite` whether
    every token's error was.
    Raises ValueError without tolerance and size, or for one out of its bounds."""
    if tolerance is None and size is None:
        raise ValueError("learner itda needs tolerance, the error at which a token joins, or size.")
    if isinstance(tolerance, int | float) and not 0 <= tolerance < 1:
        raise ValueError(f"{tolerance=} is a share of a token's square; it must lie in [0, 1).")
    n = dictionary.n_latents
    if isinstance(size, int | float) and not 1 <= size <= n:
        raise ValueError(
            f"{size=} must lie between 1 and {dictionary.n_latents=}, the rows there are."
        )

    def init(key: jax.Array, batch: Batch) -> State:
        variables = dictionary.init(key, batch.x_BD, jnp.zeros(n, bool))
        return State(dict(variables), jnp.zeros((), jnp.int32))

    def update(state: State, batch: Batch) -> tuple[State, dict]:
        if batch.sequence_B is None:
            raise ValueError(
                "learner itda reads where tokens came from; give the stream keys=True."
            )
        x_BD = batch.x_BD
        out = cast(Out, dictionary.apply(state.variables, x_BD, jnp.zeros(n, bool)))
        square_B = jnp.sum(x_BD**2, -1)
        error_B = jnp.sum((x_BD - out.y_BD) ** 2, -1)
        share_B = error_B / jnp.where(square_B > 0, square_B, 1)
        norm_B = jnp.sqrt(jnp.where(square_B > 0, square_B, 1))
        failed_B = share_B > (0 if tolerance is None else tolerance)
        failed_B &= ~_repeats(x_BD / norm_B[:, None], failed_B, alike)

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


def _repeats(unit_BD, failed_B, alike: float):
    """Whether an earlier token of the batch that failed too is the same."""
    same_BB = lax.stop_gradient(unit_BD @ unit_BD.T) > alike
    return (jnp.tril(same_BB, -1) & failed_B).any(1)
