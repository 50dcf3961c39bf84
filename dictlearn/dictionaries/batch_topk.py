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

from dictlearn.dictionaries import _allocation, _linear, _stats
from dictlearn.ops.encode import pre_activations
from dictlearn.ops.topk.batch import batch_top
from dictlearn.types import Codes, Dictionary, Out, Scalar


class BatchTopK(Dictionary):
    """d_in: width of the input. n_latents: F. k: mean active latents a token, may be fractional and
    traced. k_max: bound of a traced k. aux_k: dead latents that AuxK uses a token, 0 for none.
    threshold_decay: of the running
    mean behind theta. norm_weighted: score latents by what they add, for atoms not held at unit norm.
    anneal_steps: steps over which k falls from `k_start` (None: d_in) as `anneal`, "linear" or
    "exponential", says; theta begins anew after. d_out: width of a transcoder's target, or None."""

    d_in: int
    n_latents: int
    k: Scalar
    k_max: float | None = None
    aux_k: int = 0
    threshold_decay: float = 0.999
    norm_weighted: bool = False
    anneal_steps: int = 0
    k_start: int | None = None
    anneal: str = "linear"
    d_out: int | None = None

    def setup(self):
        _allocation.check(self)
        _allocation.check_annealing(self)
        _linear.declare(self)
        _allocation.declare_threshold(self)
        if self.anneal_steps:
            _stats.declare_step(self)

    @property
    def foldable(self) -> bool:
        """Scores that are weighted by atoms of another scale than the input's do not scale with it."""
        return not self.norm_weighted or self.d_out is None

    def encode(self, x_BD) -> Codes:
        f_BF = jax.nn.relu(_linear.pre(self, x_BD))
        return Codes(f_BF * (f_BF > self.threshold()))

    def decode(self, codes: Codes):
        return _linear.decode(self, codes)

    def threshold(self):
        """What a latent must exceed: a scalar, or `[F]` under `norm_weighted`; 0 before the first batch."""
        return _allocation.threshold(self) / self._weight()

    def __call__(self, x_BD, dead_F) -> Out:
        read = _linear.encoder(self, x_BD)
        pre_BF = pre_activations(*read)
        f_BF = jax.nn.relu(pre_BF)
        n = jnp.round(_allocation.annealed(self) * x_BD.shape[0]).astype(jnp.int32)
        most = _allocation.crowd(self)
        f_BF = f_BF * batch_top(f_BF * self._weight(), n, most)
        ended = self.step.value == self.anneal_steps if self.anneal_steps else False
        _allocation.remember(self, f_BF * self._weight(), ended)
        if self.anneal_steps:
            _stats.advance(self)
        return _linear.few_or_many(self, read, pre_BF, f_BF, most, dead_F)

    def _weight(self):
        return _allocation.atom_norms(self) if self.norm_weighted else 1.0
