"""Mutual Choice: tokens and latents share B k matches freely; AuxK lifts latents below Zipf's law.

    f = S ReLU(z),   S = argmax sum_ij S_ij ReLU(z_ij)   subject to   sum_ij S_ij <= B k
    underused_i = density_i < margin law(rank_i)         ehat = TopK_{aux_k}(z of the under-used) W_dec

Source: Ayonrinde 2024 (arXiv:2411.02124). S is the mask of BatchTopK, and inference its threshold (see
batch_topk.py). Unsure, and ours: a hard mask of latents below `margin` of the fitted law (ops/zipf.py), the law
fitted anew at every step to running densities, dead latents counted as under-used. An under-used latent that
is active in the batch helps too, else it would be helped only when it is dead.
"""

import jax
import jax.numpy as jnp

from dictlearn.dictionaries import _topk
from dictlearn.dictionaries._activations import Activation, Many
from dictlearn.dictionaries._stats import Density, Threshold, share
from dictlearn.ops import zipf
from dictlearn.ops.topk.batch import batch_top
from dictlearn.types import Codes, Scalar


class MutualChoice(Activation):
    """k: mean active latents a token, may be fractional and traced. aux_k: under-used latents that AuxK uses a
    token, 0 for none (spec of the paper: about d_in / 2). margin: share of the law below which a latent is
    under-used. density_decay, threshold_decay: of the running means."""

    k: Scalar
    aux_k: int = 0
    margin: Scalar = 0.5
    density_decay: float = 0.999
    threshold_decay: float = 0.999

    def setup(self):
        _topk.check_share(self.k, self.n_latents)
        _topk.check_aux(self.aux_k, self.n_latents)
        self.theta = Threshold(self.threshold_decay)
        self.density = Density(self.n_latents, self.density_decay)
        share(self, self.theta, self.density)

    def threshold(self, weight):
        """theta, a scalar; 0 before the first batch."""
        return self.theta.now()

    def choose(self, pre_BF, weight, dead_F) -> Many:
        f_BF = jax.nn.relu(pre_BF)
        f_BF = f_BF * batch_top(f_BF, jnp.round(self.k * len(pre_BF)).astype(jnp.int32))
        underused_F = zipf.underused(self.density.now(), self.margin) | dead_F
        self.theta.take(f_BF)
        self.density.take(f_BF)
        aux = _topk.none_active(pre_BF), underused_F
        return Many(Codes(f_BF), f_BF, pre_BF, self.n_latents, aux=aux)
