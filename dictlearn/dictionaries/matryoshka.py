"""Matryoshka SAE: nested prefixes of the latents, each of which reconstructs the target by itself.

    yhat_j = sum_{i < m_j} f_i d_i + b_dec      loss = sum_j w_j objective(yhat_j) + AuxK of the whole

The activation (default "batch_topk") selects latents once, over all F. Accumulated sums over the groups
of latents give all yhat_j at the cost of one decode.

Source: Bussmann, Nabeshima et al. 2025 (arXiv:2503.17547), section 3, with the groups of SAEBench (1/32,
1/16, 1/8, 1/4 and the rest); ReLU and random prefixes as in Nabeshima's Matryoshka SAEs (2024).

Differs: Nabeshima's random prefixes have any length, and latents are sorted by size; here they are drawn
from `prefixes`, and latents are never permuted. The weight of the whole is 1; published code divides by
the number of prefixes, which changes nothing under Adam but does change clipping and penalties.
"""

import itertools

import jax
import jax.numpy as jnp

from dictlearn.dictionaries._linear import Linear
from dictlearn.dictionaries._stats import Step, share
from dictlearn.types import Codes, Tokens


class Matryoshka(Linear):
    """The dictionary, with these hyperparameters.

    Args:
        prefixes: the m_j in ascending order, as shares of F (float) or numbers of latents (int), the last
            one all of F.
        weights: w_j for all but the last, None for ones.
        draw: the number of prefixes that a step uses in addition to the whole, 0 for all. They are drawn
            without replacement by `seed`, with probability proportional to m_j^-power - m_{j+1}^-power (a
            truncated Pareto law, rounded down to `prefixes`).

    The other fields are as in `Linear`.
    """

    default = "batch_topk"

    prefixes: tuple[float | int, ...] = (1 / 32, 3 / 32, 7 / 32, 15 / 32, 1.0)
    weights: tuple[float, ...] | None = None
    draw: int = 0
    power: float = 0.5
    seed: int = 0

    def setup(self):
        super().setup()
        self.widths()
        if self.draw:
            self.steps = Step()
            share(self, self.steps)

    def encode(self, x_BD: Tokens, prefix: int | None = None) -> Codes:
        """Codes of each token. prefix: keep only the latents before this index and set all others to zero."""
        codes = super().encode(x_BD)
        if prefix is None:
            return codes
        latent = jnp.arange(self.n_latents) if codes.idx_BK is None else codes.idx_BK
        return codes._replace(val=codes.val * (latent < prefix))

    def _parts(self, entries, val, atoms):
        return entries.decode_nested(val, atoms, tuple(self.widths()))

    def _part_weights(self):
        """w_j of every prefix but the last; zero for the prefixes that are not drawn."""
        widths = self.widths()
        weight_j = [1.0] * (len(widths) - 1) if self.weights is None else list(self.weights)
        if not self.draw:
            return weight_j
        survival = jnp.asarray(widths, jnp.float32) ** -self.power
        share = survival[:-1] - survival[1:]
        key, odds = self.steps.next_key(self.seed), share / share.sum()
        drawn = jax.random.choice(key, len(share), (self.draw,), replace=False, p=odds)
        on_j = jnp.zeros(len(share)).at[drawn].set(1.0)
        return [weight * on for weight, on in zip(weight_j, on_j, strict=True)]

    def widths(self) -> list[int]:
        """m_j as numbers of latents. Raises ValueError for prefixes, weights or a draw that do not fit."""
        n = self.n_latents
        widths = [max(1, round(m * n)) if isinstance(m, float) else m for m in self.prefixes]
        rising = all(low < high for low, high in itertools.pairwise((0, *widths)))
        if not rising or widths[-1] != n:
            raise ValueError(
                f"prefixes={self.prefixes} are {widths}; they must ascend to {n} latents."
            )
        if self.weights is not None and len(self.weights) != len(widths) - 1:
            raise ValueError(
                f"weights={self.weights} must have {len(widths) - 1} entries, one for each proper prefix."
            )
        if not 0 <= self.draw < len(widths):
            raise ValueError(
                f"draw={self.draw} must be at most {len(widths) - 1}, the number of proper prefixes."
            )
        return widths
