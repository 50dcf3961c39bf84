"""BatchTopK: the B k largest rectified pre-activations of the whole batch; a threshold at inference.

    training   f = ReLU(z) * [s among the B k largest of the batch]     s_i = ReLU(z_i), or ReLU(z_i) |d_i|
    inference  f = ReLU(z) * [s > theta],   theta = E_batches[smallest positive score kept]

Source: Bussmann et al. 2024 (arXiv:2412.06410), section 3. The batch is the global one: over shards the
threshold is found by counting (ops/topk/batch.py). theta is the running mean of the per-batch minima with
`threshold_decay`, corrected for its start at zero; the paper takes the mean over batches after training.
`norm_weighted` and annealing: Llama Scope (He et al. 2024, arXiv:2410.20526), section 3.
"""

import jax
import jax.numpy as jnp
from jax import lax

from dictlearn.dictionaries import _topk
from dictlearn.dictionaries._activations import Activation, Many
from dictlearn.dictionaries._stats import Step, Threshold, share
from dictlearn.ops.topk.batch import batch_top
from dictlearn.types import Codes, Scalar


class BatchTopK(Activation):
    """k: mean active latents a token, may be fractional and traced. k_max: bound of a traced k. aux_k: dead
    latents that AuxK uses a token, 0 for none. threshold_decay: of the running mean behind theta.
    norm_weighted: score latents by what they add, for atoms not held at unit norm. anneal_steps: steps over
    which k falls from `k_start` (None: d_in) as `anneal`, "linear" or "exponential", says; theta begins anew
    after."""

    k: Scalar
    k_max: float | None = None
    aux_k: int = 0
    threshold_decay: float = 0.999
    norm_weighted: bool = False
    anneal_steps: int = 0
    k_start: int | None = None
    anneal: str = "linear"

    def setup(self):
        _topk.check_share(self.k, self.n_latents)
        _topk.check_aux(self.aux_k, self.n_latents)
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
        """Scores weighted by atoms of another scale than the input's do not scale with it."""
        return not self.norm_weighted

    def threshold(self, weight):
        """A scalar, or `[F]` under `norm_weighted`; 0 before the first batch."""
        theta = self.theta.now()
        if weight is None:
            return theta
        return theta / lax.stop_gradient(jnp.where(weight > 0, weight, 1))

    def choose(self, pre_BF, weight, dead_F) -> Many:
        f_BF, k, ended = jax.nn.relu(pre_BF), self.k, False
        if self.anneal_steps:
            ended = self.steps.now() == self.anneal_steps
            k = self._annealing.k(k, self.steps.now())
            self.steps.advance()
        n, most = jnp.round(k * len(pre_BF)).astype(jnp.int32), self._crowd()
        weight = 1.0 if weight is None else weight
        f_BF = f_BF * batch_top(f_BF * weight, n, most)
        self.theta.take(f_BF * weight, ended)
        return Many(Codes(f_BF), f_BF, pre_BF, most)

    def _crowd(self) -> int:
        k = self.k if isinstance(self.k, int | float) else self.k_max
        return _topk.crowd(None if self.anneal_steps else k, self.n_latents)
