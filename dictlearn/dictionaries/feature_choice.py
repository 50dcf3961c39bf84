"""Feature Choice: every latent chooses its m_i tokens of the batch; m follows Zipf's law.

    f = S ReLU(z),   S = argmax sum_ij S_ij ReLU(z_ij)   subject to   sum_tokens S_i <= m_i,   sum_i m_i = B k
    m_i in proportion to law(rank_i), or all equal           inference   f_i = ReLU(z_i) [z_i > theta_i]

Source: Ayonrinde 2024 (arXiv:2411.02124). Unsure, and ours: the first `choose_after` passes select as Mutual
Choice does, while AuxK lifts latents below the law (see mutual_choice.py); then the densities seen so far, and
with them the law, are frozen. A latent's rank is that of its summed ReLU(z) in the batch. theta_i is the mean,
as a running one, of the smallest value kept, Mutual Choice's theta for a latent that has kept none. Every m_i
is at least 1 where B k >= F allows it; what a latent that is positive on fewer than m_i tokens leaves is not
given to others.
"""

import jax
import jax.numpy as jnp
from jax import lax

from dictlearn.dictionaries import _allocation, _linear, _stats
from dictlearn.ops import zipf
from dictlearn.ops.control_flow import any_member
from dictlearn.ops.topk.axis import column_top
from dictlearn.ops.topk.batch import batch_top
from dictlearn.types import Codes, Dictionary, Out, Scalar


class FeatureChoice(Dictionary):
    """d_in: width of the input. n_latents: F. k: mean active latents a token, may be fractional and
    traced. law: "zipf" or "uniform" m. choose_after: passes of Mutual Choice before. aux_k: under-used
    latents that AuxK uses a token, 0 for none; afterwards only dead ones are. margin: share of the law
    below which a latent is under-used. density_decay, threshold_decay: of the running means.
    d_out: width of a transcoder's target, or None."""

    d_in: int
    n_latents: int
    k: Scalar
    law: str = "zipf"
    choose_after: int = 1000
    aux_k: int = 0
    margin: Scalar = 0.5
    density_decay: float = 0.999
    threshold_decay: float = 0.999
    d_out: int | None = None

    def setup(self):
        _allocation.check(self)
        if self.law not in ("zipf", "uniform"):
            raise ValueError(f"{self.law=} must be zipf or uniform.")
        _linear.declare(self)
        _allocation.declare_threshold(self)
        _allocation.declare_density(self)
        _stats.declare_step(self)
        shape = (self.n_latents,)
        self.own_threshold = self.variable("stats", "threshold_F", jnp.zeros, shape)
        self.own_weight = self.variable("stats", "kept_F", jnp.zeros, shape)

    def encode(self, x_BD) -> Codes:
        f_BF = jax.nn.relu(_linear.pre(self, x_BD))
        return Codes(f_BF * (f_BF > self.threshold()))

    def decode(self, codes: Codes):
        return _linear.decode(self, codes)

    def threshold(self):
        """theta, `[F]`; 0 before the first batch."""
        shared = _allocation.threshold(self)
        return jnp.where(self.own_weight.value > 0, self.own_threshold.value, shared)

    def __call__(self, x_BD, dead_F) -> Out:
        read = _linear.encoder(self, x_BD)
        pre_BF = _linear.product(*read)
        f_BF = jax.nn.relu(pre_BF)
        n = jnp.round(self.k * x_BD.shape[0]).astype(jnp.int32)
        chooses = self.step.value >= self.choose_after
        by_latent = lambda: column_top(f_BF, self._quotas(f_BF, n))
        codes = Codes(f_BF * lax.cond(any_member(chooses), by_latent, lambda: batch_top(f_BF, n)))
        residual_BD = None
        if self.aux_k:
            underused_F = zipf.underused(_allocation.density(self), self.margin) & ~chooses
            residual_BD = _allocation.residual(self, read, pre_BF, underused_F | dead_F)
        _allocation.remember(self, jnp.where(chooses, 0, codes.val))
        _allocation.observe(self, codes, ~chooses)
        self._remember_own(codes.val, chooses)
        _stats.advance(self)
        return Out(self.decode(codes), codes, lax.stop_gradient(pre_BF), residual_BD=residual_BD)

    def _quotas(self, f_BF, n):
        """m, `[F]`."""
        weight_R = jnp.ones(self.n_latents)
        if self.law == "zipf":
            weight_R = zipf.curve(zipf.fit(_allocation.density(self)), self.n_latents)
        return zipf.quotas(weight_R, n)[zipf.ranks(lax.stop_gradient(f_BF).sum(0))]

    def _remember_own(self, f_BF, chooses):
        if not _stats.learns(self):
            return
        f_BF = lax.stop_gradient(f_BF)
        least_F = jnp.min(jnp.where(f_BF > 0, f_BF, jnp.inf), axis=0)
        found_F = jnp.isfinite(least_F) & chooses
        new_F = jnp.where(found_F, 1 - self.threshold_decay, 0.0)
        weight_F = (1 - new_F) * self.own_weight.value + new_F
        step_F = jnp.where(found_F, new_F / jnp.where(found_F, weight_F, 1), 0.0)
        least_F = jnp.where(found_F, least_F, 0).astype(weight_F.dtype)
        self.own_threshold.value += step_F * (least_F - self.own_threshold.value)
        self.own_weight.value = weight_F
