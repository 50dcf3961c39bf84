"""TopK: keep the k largest pre-activations of each token, rectified.

    z = (x - b_dec) W_enc + b_enc      f = ReLU(TopK_k(z))      yhat = f W_dec + b_dec

A token with fewer than k positive pre-activations has fewer than k active latents. The gradient reaches
only the entries kept, and is as sparse as they are.

Source: Makhzani & Frey 2013 (arXiv:1312.5663); Gao et al. 2024 (arXiv:2406.04093), equations 4-5, AuxK
from section A.2, Multi-TopK from section 5.2. `norm_weighted`, which ranks by z |d_i|, and k annealing:
Llama Scope (He et al. 2024, arXiv:2410.20526), section 3.

Differs: Llama Scope has no AuxK; here AuxK ranks dead latents by z.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from dictlearn.dictionaries import _topk
from dictlearn.dictionaries._activations import Activation, Few, Weight
from dictlearn.dictionaries._stats import Step, share
from dictlearn.ops.topk.by_score import top_by
from dictlearn.ops.topk.exact import top_k
from dictlearn.types import Codes, Scalar


class TopK(Activation):
    """The activation, with these hyperparameters.

    Args:
        k: the number of active latents of a token, which may be traced if `k_max`, its upper bound, is
            given.
        multi: the weight of the Multi-TopK loss, the loss of the reconstruction from `multi_factor` k
            latents, 0 for none (the paper: 1/8), which keeps reconstructions good at other k.
        norm_weighted: whether latents are ranked by z |d_i|, for atoms that are not held at unit norm.
        anneal_steps: the number of steps over which k falls from `k_start` (None: d_in) along the curve
            `anneal`, "linear" or "exponential".

    With annealing, every step keeps k_start entries in memory and computes with k.
    """

    k: Scalar
    k_max: int | None = None
    multi: float = 0.0
    multi_factor: int = 4
    norm_weighted: bool = False
    anneal_steps: int = 0
    k_start: int | None = None
    anneal: str = "linear"

    def setup(self):
        self._bound = _topk.bound(self.k, self.k_max, self.n_latents)
        if self.multi_factor < 2:
            raise ValueError(f"{self.multi_factor=} must be at least 2, a multiple of k.")
        start = self.k_start or min(self.d_in, self.n_latents)
        self._annealing = _topk.Annealing(self.anneal_steps, start, self.anneal)
        self._annealing.check(self.n_latents)
        if self.anneal_steps:
            self.steps = Step()
            share(self, self.steps)

    @property
    def weighted(self) -> bool:
        return self.norm_weighted

    def choose(self, pre_BF: Float[Array, "B F"], weight: Weight, dead_F: Bool[Array, " F"]) -> Few:
        k, width = self.k, self._bound
        if self.anneal_steps:
            k = self._annealing.k(k, self.steps.now())
            width = max(width, self._annealing.start)
            self.steps.advance()
        widest = min(self.n_latents, width * (self.multi_factor if self.multi else 1))
        val_BK, idx_BK = self._ranked(pre_BF, weight, widest)
        on = lambda k, n: (val_BK[:, :n] > 0) & (jnp.arange(n) < k)
        more = None
        if self.multi:
            k_more = self.multi_factor * k
            more = self.multi, on(k_more, widest), _topk.n_used(k_more, widest)
        return Few(val_BK, idx_BK, on(k, width), _topk.n_used(k, width), more)

    def infer(self, pre_BF: Float[Array, "B F"], weight: Weight) -> Codes:
        _, idx_BK = self._ranked(pre_BF, weight, self._bound)
        val_BK = jax.nn.relu(jnp.take_along_axis(pre_BF, idx_BK, axis=1))
        return Codes(val_BK * (jnp.arange(self._bound) < self.k), idx_BK)

    def _ranked(self, pre_BF, weight, n: int):
        """The `n` highest-ranked pre-activations of each token, without gradient, and the indices of their
        latents."""
        pre_BF, weight = lax.stop_gradient((pre_BF, weight))
        if weight is None:
            return top_k(pre_BF, n)
        return top_by(jax.nn.relu(pre_BF) * weight, pre_BF, n)
