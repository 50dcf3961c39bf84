"""Feature Choice: each latent selects its m_i tokens of the batch, and m follows Zipf's law.

    f = S ReLU(z),   S = argmax sum_ij S_ij ReLU(z_ij)   subject to   sum_tokens S_i <= m_i,   sum_i m_i = B k
    m_i in proportion to law(rank_i), or all equal           inference   f_i = ReLU(z_i) [z_i > theta_i]

The rank of a latent is the rank of its summed ReLU(z) in the batch. theta_i is a running mean of the
smallest value kept; a latent that has kept none uses the theta of Mutual Choice.

Source: Ayonrinde 2024 (arXiv:2411.02124).

UNSURE, and our choice: the first `choose_after` passes select as Mutual Choice does, while AuxK raises the
latents below the law (see mutual_choice.py). After that, the running densities and the law fitted to them are
frozen. Every m_i is at least 1 where B k >= F allows it. A latent that is positive on fewer than m_i tokens
leaves its remaining tokens unused.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from dictlearn.dictionaries import _topk
from dictlearn.dictionaries._activations import Activation, Many, Weight
from dictlearn.dictionaries._stats import Density, Step, Threshold, share
from dictlearn.ops import zipf
from dictlearn.ops.control_flow import any_member
from dictlearn.ops.topk.axis import column_top
from dictlearn.ops.topk.batch import batch_top
from dictlearn.types import Codes, Scalar


class FeatureChoice(Activation, kw_only=True):
    """The activation, with these hyperparameters.

    Args:
        k: the mean number of active latents of a token, which may be fractional and traced.
        law: the shape of m, "zipf" or "uniform".
        choose_after: the number of passes of Mutual Choice before Feature Choice begins; until then AuxK
            uses the under-used latents, after that the dead ones only.
        aux_rectified: as in `Activation`; here the latents are not dead, and values below zero would disturb
            them: on Zipf data more would die than without AuxK.
        margin: the fraction of the law below which a latent is under-used.
        density_decay, threshold_decay: the decays of the running means.
    """

    k: Scalar
    law: str = "zipf"
    choose_after: int = 1000
    aux_rectified: bool = True
    margin: Scalar = 0.5
    density_decay: float = 0.999
    threshold_decay: float = 0.999

    @classmethod
    def recommended(cls, *, d_in: int, n_latents: int, steps: int, l0: float) -> dict:
        own = {
            "threshold_decay": _topk.threshold_decay(steps),
            "choose_after": min(1000, steps // 4),
        }
        return {"dictionary": own}

    def setup(self):
        _topk.check_share(self.k, self.n_latents)
        if self.law not in ("zipf", "uniform"):
            raise ValueError(f"{self.law=} must be zipf or uniform.")
        self.theta, self.steps = Threshold(self.threshold_decay), Step()
        self.density = Density(self.n_latents, self.density_decay)
        share(self, self.theta, self.density, self.steps)
        shape = (self.n_latents,)
        self.own_threshold = self.variable("stats", "threshold_F", jnp.zeros, shape)
        self.own_weight = self.variable("stats", "kept_F", jnp.zeros, shape)

    def threshold(self, weight: Weight) -> jax.Array:
        """theta, `[F]`; 0 before the first batch."""
        return jnp.where(self.own_weight.value > 0, self.own_threshold.value, self.theta.now())

    def choose(
        self, pre_BF: Float[Array, "B F"], weight: Weight, dead_F: Bool[Array, " F"]
    ) -> Many:
        f_BF = jax.nn.relu(pre_BF)
        n = jnp.round(self.k * len(pre_BF)).astype(jnp.int32)
        chooses = self.steps.now() >= self.choose_after
        density_F = self.density.now()
        by_latent = lambda: column_top(f_BF, self._quotas(f_BF, density_F, n))
        by_batch = lambda: batch_top(f_BF, n).on_BF
        kept_BF = f_BF * lax.cond(any_member(chooses), by_latent, by_batch)
        underused_F = zipf.underused(density_F, self.margin) & ~chooses
        least = jnp.min(jnp.where(kept_BF > 0, kept_BF, jnp.inf))
        self.theta.take(jnp.where(chooses, jnp.inf, least))
        self.density.take(kept_BF, ~chooses)
        self._remember_own(kept_BF, chooses)
        self.steps.advance()
        aux = _topk.none_active(pre_BF), underused_F | dead_F
        return Many(Codes(kept_BF), kept_BF, pre_BF, self.n_latents, aux=aux)

    def _quotas(self, f_BF, density_F, n):
        """m, the number of tokens that each latent selects, `[F]`."""
        weight_R = jnp.ones(self.n_latents)
        if self.law == "zipf":
            weight_R = zipf.curve(zipf.fit(density_F), self.n_latents)
        return zipf.quotas(weight_R, n)[zipf.ranks(f_BF.sum(0))]

    def _remember_own(self, f_BF, chooses):
        if not self.steps.learns:
            return
        least_F = jnp.min(jnp.where(f_BF > 0, f_BF, jnp.inf), axis=0)
        found_F = jnp.isfinite(least_F) & chooses
        new_F = jnp.where(found_F, 1 - self.threshold_decay, 0.0)
        weight_F = (1 - new_F) * self.own_weight.value + new_F
        step_F = jnp.where(found_F, new_F / jnp.where(found_F, weight_F, 1), 0.0)
        least_F = jnp.where(found_F, least_F, 0).astype(weight_F.dtype)
        self.own_threshold.value += step_F * (least_F - self.own_threshold.value)
        self.own_weight.value = weight_F
