"""BatchTopK: keep the B k largest rectified pre-activations of the batch; use a threshold at inference.

    training   f = ReLU(z) * [s among the B k largest of the batch]     s_i = ReLU(z_i), or ReLU(z_i) |d_i|
    inference  f = ReLU(z) * [s > theta],   theta = E_batches[smallest positive score kept]

The batch is the global one: over shards, the threshold is found by counting (ops/topk/batch.py).

Source: Bussmann et al. 2024 (arXiv:2412.06410), section 3. `norm_weighted` and k annealing: Llama Scope
(He et al. 2024, arXiv:2410.20526), section 3.

Differs: theta is a running mean of the per-batch minima with `threshold_decay`, corrected for its start
at zero; the paper averages over batches after training.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from dictlearn.dictionaries import _topk
from dictlearn.dictionaries._activations import Activation, Many, Weight
from dictlearn.dictionaries._stats import Step, Threshold, share
from dictlearn.ops.topk.batch import batch_top
from dictlearn.types import Codes, Scalar


class BatchTopK(Activation):
    """The activation, with these hyperparameters.

    Args:
        k: the mean number of active latents of a token, which may be fractional and traced.
        k_max: the upper bound of a traced k.
        threshold_decay: the decay of the running mean theta.
        norm_weighted: whether latents are ranked by f_i |d_i|, for atoms that are not held at unit norm.
        anneal_steps: the number of steps over which k falls from `k_start` (None: d_in) along the curve
            `anneal`, "linear" or "exponential".

    The running mean of theta restarts when annealing ends.
    """

    k: Scalar
    k_max: float | None = None
    threshold_decay: float = 0.999
    norm_weighted: bool = False
    anneal_steps: int = 0
    k_start: int | None = None
    anneal: str = "linear"

    @classmethod
    def recommended(cls, *, d_in: int, n_latents: int, steps: int, l0: float) -> dict:
        return {"dictionary": {"threshold_decay": _topk.threshold_decay(steps)}}

    def setup(self):
        _topk.check_share(self.k, self.n_latents)
        start = self.k_start or min(self.d_in, self.n_latents)
        self._annealing = _topk.Annealing(self.anneal_steps, start, self.anneal)
        self._annealing.check(self.n_latents)
        self.theta = Threshold(self.threshold_decay)
        share(self, self.theta)
        if self.anneal_steps:
            self.steps = Step()
            share(self, self.steps)

    @property
    def weighted(self) -> bool:
        return self.norm_weighted

    @property
    def scales(self) -> bool:
        """Scores weighted by the atoms of a transcoder do not scale with its input."""
        return not self.norm_weighted

    def threshold(self, weight: Weight) -> jax.Array:
        """A scalar, or `[F]` under `norm_weighted`; 0 before the first batch."""
        theta = self.theta.now()
        if weight is None:
            return theta
        return theta / lax.stop_gradient(jnp.where(weight > 0, weight, 1))

    def choose(
        self, pre_BF: Float[Array, "B F"], weight: Weight, dead_F: Bool[Array, " F"]
    ) -> Many:
        k, ended = self.k, False
        if self.anneal_steps:
            ended = self.steps.now() == self.anneal_steps
            k = self._annealing.k(k, self.steps.now())
            self.steps.advance()
        n, k_sparse = jnp.round(k * len(pre_BF)).astype(jnp.int32), self._k_sparse()
        top = batch_top(pre_BF if weight is None else pre_BF * weight, n, k_sparse)
        f_BF = jnp.where(top.on_BF, pre_BF, 0)
        self.theta.take(top.least, ended)
        return Many(Codes(f_BF), f_BF, pre_BF, k_sparse, near=top.near)

    def _k_sparse(self) -> int:
        k = self.k if isinstance(self.k, int | float) else self.k_max
        return _topk.k_sparse(None if self.anneal_steps else k, self.n_latents)
