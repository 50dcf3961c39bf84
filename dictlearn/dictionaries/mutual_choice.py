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
from jax import lax

from dictlearn.dictionaries import _allocation, _linear
from dictlearn.ops import zipf
from dictlearn.ops.topk.batch import batch_top
from dictlearn.types import Codes, Dictionary, Out, Scalar


class MutualChoice(Dictionary):
    """d_in: width of the input. n_latents: F. k: mean active latents a token, may be fractional and
    traced. aux_k: under-used latents that AuxK uses a token, 0 for none (spec of the paper: about
    d_in / 2). margin: share of the law below which a latent is under-used. density_decay,
    threshold_decay: of the running means. d_out: width of a transcoder's target, or None."""

    d_in: int
    n_latents: int
    k: Scalar
    aux_k: int = 0
    margin: Scalar = 0.5
    density_decay: float = 0.999
    threshold_decay: float = 0.999
    d_out: int | None = None

    def setup(self):
        _allocation.check(self)
        _linear.declare(self)
        _allocation.declare_threshold(self)
        _allocation.declare_density(self)

    def encode(self, x_BD) -> Codes:
        f_BF = jax.nn.relu(_linear.pre(self, x_BD))
        return Codes(f_BF * (f_BF > self.threshold()))

    def decode(self, codes: Codes):
        return _linear.decode(self, codes)

    def threshold(self):
        """theta, a scalar; 0 before the first batch."""
        return _allocation.threshold(self)

    def __call__(self, x_BD, dead_F) -> Out:
        read = _linear.encoder(self, x_BD)
        pre_BF = _linear.product(*read)
        f_BF = jax.nn.relu(pre_BF)
        n = jnp.round(self.k * x_BD.shape[0]).astype(jnp.int32)
        codes = Codes(f_BF * batch_top(f_BF, n))
        residual_BD = None
        if self.aux_k:
            underused_F = zipf.underused(_allocation.density(self), self.margin) | dead_F
            residual_BD = _allocation.residual(self, read, pre_BF, underused_F)
        _allocation.remember(self, codes.val)
        _allocation.observe(self, codes)
        return Out(self.decode(codes), codes, lax.stop_gradient(pre_BF), residual_BD=residual_BD)
