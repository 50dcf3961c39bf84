"""Mutual Choice: tokens and latents share B k matches freely, and AuxK raises the latents below Zipf's law.

    f = S ReLU(z),   S = argmax sum_ij S_ij ReLU(z_ij)   subject to   sum_ij S_ij <= B k
    underused_i = density_i < margin law(rank_i)         ehat = TopK_{aux_k}(z of the under-used) W_dec

S is the mask of BatchTopK, and inference uses its threshold (see batch_topk.py).

Source: Ayonrinde 2024 (arXiv:2411.02124).

UNSURE, and our choice: a hard mask of the latents below `margin` times the fitted law (ops/zipf.py). The law is
fitted to the running densities at every step. Dead latents count as under-used. An under-used latent that is
active in the batch also takes part in AuxK, because otherwise it would take part only when it is dead.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dictlearn.dictionaries import _topk
from dictlearn.dictionaries._activations import Activation, Many, Weight
from dictlearn.dictionaries._stats import Density, Threshold, share
from dictlearn.ops import zipf
from dictlearn.ops.topk.batch import batch_top
from dictlearn.types import Codes, Scalar


class MutualChoice(Activation, kw_only=True):
    """The activation, with these hyperparameters.

    Args:
        k: the mean number of active latents of a token, which may be fractional and traced.
        aux_rectified: as in `Activation`; here the latents are not dead, and values below zero would disturb
            them: on Zipf data more would die than without AuxK.
        margin: the fraction of the law below which a latent is under-used.
        density_decay, threshold_decay: the decays of the running means.
    """

    k: Scalar
    aux_rectified: bool = True
    margin: Scalar = 0.5
    density_decay: float = 0.999
    threshold_decay: float = 0.999

    @classmethod
    def recommended(cls, *, d_in: int, n_latents: int, steps: int, l0: float) -> dict:
        return {"dictionary": {"threshold_decay": _topk.threshold_decay(steps)}}

    def setup(self):
        _topk.check_share(self.k, self.n_latents)
        self.theta = Threshold(self.threshold_decay)
        self.density = Density(self.n_latents, self.density_decay)
        share(self, self.theta, self.density)

    def threshold(self, weight: Weight) -> jax.Array:
        """theta, a scalar; 0 before the first batch."""
        return self.theta.now()

    def choose(
        self, pre_BF: Float[Array, "B F"], weight: Weight, dead_F: Bool[Array, " F"]
    ) -> Many:
        top = batch_top(pre_BF, jnp.round(self.k * len(pre_BF)).astype(jnp.int32))
        f_BF = jnp.where(top.on_BF, pre_BF, 0)
        underused_F = zipf.underused(self.density.now(), self.margin) | dead_F
        self.theta.take(top.least)
        self.density.take(f_BF)
        aux = _topk.none_active(pre_BF), underused_F
        return Many(Codes(f_BF), f_BF, pre_BF, self.n_latents, aux=aux)
