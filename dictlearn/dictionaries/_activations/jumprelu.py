"""JumpReLU: each latent has a threshold, learned with straight-through gradients.

    z = (x - b_dec) W_enc + b_enc      f = z [z > theta]      yhat = f W_dec + b_dec      theta = exp(t)

    penalty "l0"         sparsity * sum_i [z_i > theta_i]
            "tanh"       sparsity * sum_i tanh(c f_i |d_i|) + revival * sum_i ReLU(theta_i - z_i) |d_i|
            "target_l0"  sparsity * (L0 / target_l0 - 1)^2,   L0 the mean over the batch

The gradients are in ops/jumprelu.py: the gradient of "l0" reaches theta only, the gradient of "tanh"
every parameter. The parameter is log theta, as in Anthropic's update, so that theta stays positive.

Source: Rajamanoharan et al. 2024 (arXiv:2407.14435), sections 3 and 4 ("l0"; "target_l0" from its
appendix); Anthropic, January 2025 update ("tanh").

The defaults are Gemma Scope's (arXiv:2408.05147) for inputs of mean squared norm 1 (`unit_mean_sq`). Gemma
Scope trains with the rule settings `b1` 0, lr 7e-5, `decay_fraction` 0 and the learner setting
`penalty_warmup_steps` 10000. Anthropic's settings are: `penalty` "tanh", `threshold_start` 0.1, `bandwidth` 2,
`sparsity` 20, `subtract_b_dec` false, `density_start` 10000 / F, `enc_scale` d_in / F, inputs
`mean_norm_sqrt_d`; rule `unit_norm` false, lr 2e-4; learner `atom_norm` 0.58, `b_dec_start` "zeros",
`penalty_warmup_steps` the whole run. Neither paper's grid of `sparsity` is known to us: sweep it. Compute in
float32: bfloat16 does not resolve the window.

Differs: the warm-up also acts on `revival`, which Anthropic's does not. UNSURE how the papers would scale
the bandwidth with the input (linearly here), and whether Anthropic's z has a gradient in the window
(`window_gradient`; by default it has none).
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from dictlearn.dictionaries import _topk
from dictlearn.dictionaries._activations import (
    Activation,
    Many,
    Values,
    Weight,
    density,
    one_of,
    positive,
)
from dictlearn.ops import blocks, jumprelu, penalties
from dictlearn.ops.sparse.support import Entries
from dictlearn.types import Codes, Scalar

PENALTIES = ("l0", "tanh", "target_l0")


class JumpReLU(Activation):
    """The activation, with these hyperparameters.

    Args:
        sparsity: the coefficient of the penalty, on the scale of a squared error summed over D.
        penalty: "l0", "tanh" or "target_l0".
        threshold_start: the initial value of every theta.
        bandwidth: the width of the window around theta.
        kernel: "rectangle", "triangle" or "gaussian".
        window_gradient: whether z has a gradient in the window too.
        tanh_scale: c.
        revival: the coefficient of the term that raises latents below their threshold.
        target_l0: the wanted number of active latents of a token.
    """

    sparsity: Scalar = 1e-3
    penalty: str = "l0"
    threshold_start: Scalar = 1e-3
    bandwidth: Scalar = 1e-3
    kernel: str = "rectangle"
    window_gradient: bool = False
    tanh_scale: Scalar = 4.0
    revival: Scalar = 3e-6
    target_l0: Scalar = 32.0

    @classmethod
    def recommended(cls, *, d_in: int, n_latents: int, steps: int, l0: float) -> dict:
        scale = (d_in / l0) ** 0.5 / 4
        own = {
            "penalty": "target_l0",
            "target_l0": l0,
            "sparsity": 10.0,
            "bandwidth": scale,
            "threshold_start": scale / 2,
            "density_start": density(n_latents, l0),
        }
        return {"dictionary": own}

    def setup(self):
        one_of(PENALTIES, penalty=self.penalty)
        one_of(tuple(jumprelu.KERNELS), kernel=self.kernel)
        positive(threshold_start=self.threshold_start, bandwidth=self.bandwidth)
        positive(target_l0=self.target_l0)
        log_threshold = lambda key: jnp.full(self.n_latents, jnp.log(self.threshold_start))
        self.log_threshold_F = self.param("log_threshold_F", log_threshold)

    @property
    def weighted(self) -> bool:
        return self.penalty == "tanh"

    def threshold(self, weight: Weight) -> jax.Array:
        """theta, `[F]`."""
        return jnp.exp(self.log_threshold_F)

    def choose(
        self, pre_BF: Float[Array, "B F"], weight: Weight, dead_F: Bool[Array, " F"]
    ) -> Many:
        threshold_F = self.threshold(weight)
        held_F = lax.stop_gradient(threshold_F)
        f_BF = blocks.each(lambda pre_bF: jnp.where(pre_bF > held_F, pre_bF, 0), pre_BF)
        codes = Codes(f_BF)
        arguments = threshold_F, self.bandwidth
        if self.penalty == "tanh":
            return Many(codes, jnp.ones_like(pre_BF), pre_BF, self.n_latents, arguments)
        k_sparse = _topk.k_sparse_unbounded(self.n_latents)
        penalty_B = self._l0(pre_BF, threshold_F)
        if self.window_gradient:
            below = jumprelu.reach(self.bandwidth, self.kernel)
            return Many(codes, pre_BF - held_F + below, pre_BF, k_sparse, arguments, penalty_B)
        return Many(codes, f_BF, pre_BF, k_sparse, arguments, penalty_B, window=True)

    def values(
        self, entries: Entries, weight: Weight, threshold_F: Float[Array, " F"], bandwidth: Scalar
    ) -> Values:
        theta = entries.of(threshold_F)
        f = jumprelu.jump(entries.z, theta, bandwidth, self.kernel, self.window_gradient)
        f = jnp.where(entries.on, jnp.asarray(f), 0)
        if weight is None:
            return Values(f)
        norm = entries.of(weight)
        below_B = penalties.l1(jax.nn.relu(theta - entries.z) * norm)
        size_B = penalties.tanh(f * norm, self.tanh_scale)
        return Values(f, self.sparsity * size_B + self.revival * below_B)

    def infer(self, pre_BF: Float[Array, "B F"], weight: Weight) -> Codes:
        window = self.kernel, self.window_gradient
        return Codes(jumprelu.jump(pre_BF, self.threshold(weight), self.bandwidth, *window))

    def _l0(self, pre_BF, threshold_F):
        l0_B = jnp.asarray(jumprelu.l0(pre_BF, threshold_F, self.bandwidth, self.kernel))
        if self.penalty == "target_l0":
            l0_B = jnp.broadcast_to((l0_B.mean() / self.target_l0 - 1) ** 2, l0_B.shape)
        return self.sparsity * l0_B
