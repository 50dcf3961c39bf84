"""P-annealing: a ReLU whose Lp penalty goes from L1 towards L0 during training.

    f = ReLU((x - b_dec) W_enc + b_enc)      penalty = sparsity * scale_s * sum_i f_i^p_s

p_s = 1 - (1 - p_end) s / n_updates, where s counts the updates of p; they are evenly spaced, and the last
is at step `anneal_end`. At each update the loss stays continuous over the last `queue` steps:

    scale_{s+1} = scale_s * mean[sum f^p_s] / mean[sum f^p_{s+1}]

A step is a forward pass: each part of an accumulated batch counts as one. The rule holds the atoms at
unit norm.

Source: Karvonen et al. 2024 (arXiv:2408.00113), on p-annealing, and its code.

Differs: we sum powers, Lp^p, where the code may also take the root, and we take the squared error where
it takes the norm. The slope of f^p is bounded at zero (ops/penalties.py). UNSURE about p_end: we remember
0.2 from the text; the code reaches 0 on the very last step, and so never trains below 0.11. At p = 0 the
penalty has no slope, so p_end must be positive; it is 0.1 here.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dictlearn.dictionaries import _topk
from dictlearn.dictionaries._activations import Activation, Many, Values, Weight, searched
from dictlearn.dictionaries._stats import Step, share
from dictlearn.ops import penalties
from dictlearn.ops.sparse.support import Entries
from dictlearn.types import Codes, Scalar


class PAnneal(Activation):
    """The activation, with these hyperparameters.

    Args:
        sparsity: the coefficient of the penalty while p is 1.
        p_end: the last p.
        anneal_start, anneal_end: the steps between which p falls in `n_updates` updates.
        queue: the number of steps whose mean keeps the loss continuous.
    """

    sparsity: Scalar
    p_end: Scalar = 0.1
    anneal_start: Scalar = 15_000
    anneal_end: Scalar = 30_000
    n_updates: Scalar = 10
    queue: int = 10

    @classmethod
    def recommended(cls, *, d_in: int, n_latents: int, steps: int, l0: float) -> dict:
        own = {
            "anneal_start": steps // 2,
            "anneal_end": max(steps // 2 + 1, steps * 9 // 10),
            "n_updates": min(10, max(1, steps // 10)),
        }
        return searched(d_in, n_latents, l0, **own)

    def setup(self):
        known = lambda *values: all(isinstance(value, int | float) for value in values)
        if known(self.p_end) and not 0 < self.p_end <= 1:
            raise ValueError(
                f"p_end={self.p_end} must lie above 0, where the penalty has a slope, and be at most 1."
            )
        span = self.anneal_end - self.anneal_start
        if known(self.n_updates, span) and not 1 <= self.n_updates <= span:
            raise ValueError(
                f"n_updates={self.n_updates} must be at least 1 and at most "
                f"anneal_end - anneal_start = {span}: one update for each step."
            )
        if self.queue < 1:
            raise ValueError(f"queue={self.queue} must be at least 1 step.")
        self.steps = Step()
        share(self, self.steps)
        zero = lambda name, *like: self.variable("stats", name, jnp.zeros, *like)
        self.updates = zero("updates", (), jnp.int32)
        self.scale = self.variable("stats", "scale", jnp.ones, ())
        self.now_T, self.next_T = zero("now_T", (self.queue,)), zero("next_T", (self.queue,))

    def choose(
        self, pre_BF: Float[Array, "B F"], weight: Weight, dead_F: Bool[Array, " F"]
    ) -> Many:
        f_BF = jax.nn.relu(pre_BF)
        updates, scale = self._schedule()
        now_B, next_B = (penalties.power(f_BF, self._p(n)) for n in (updates, updates + 1))
        self._remember(updates, scale, now_B.mean(), next_B.mean())
        k_sparse = _topk.k_sparse_unbounded(self.n_latents)
        return Many(Codes(f_BF), f_BF, pre_BF, k_sparse, (self._p(updates), scale))

    def values(self, entries: Entries, weight: Weight, p, scale) -> Values:
        f = jnp.where(entries.on, entries.z, 0)
        return Values(f, self.sparsity * scale * penalties.power(f, p))

    def _p(self, updates):
        return 1 - (1 - self.p_end) * jnp.minimum(updates, self.n_updates) / self.n_updates

    def _schedule(self):
        """(number of updates done, scale) of this step; at most one of the updates is new."""
        done, span = self.updates.value, self.anneal_end - self.anneal_start
        share = (self.steps.now() - self.anneal_start) / span
        due = done < jnp.floor(jnp.clip(share, 0, 1) * self.n_updates)
        now, following = self.now_T.value.sum(), self.next_T.value.sum()
        ratio = jnp.where(following > 0, now / jnp.where(following > 0, following, 1), 1)
        return done + due, self.scale.value * jnp.where(due, ratio, 1)

    def _remember(self, updates, scale, now, following):
        if not self.steps.learns:
            return
        place = self.steps.now() % self.queue
        self.now_T.value = self.now_T.value.at[place].set(now)
        self.next_T.value = self.next_T.value.at[place].set(following)
        self.steps.advance()
        self.updates.value, self.scale.value = updates, scale
