"""JumpReLU: each latent has a threshold, learnt by a straight-through gradient.

    z = (x - b_dec) W_enc + b_enc      f = z [z > theta]      yhat = f W_dec + b_dec      theta = exp(t)

    penalty "l0"         sparsity * sum_i [z_i > theta_i]
            "tanh"       sparsity * sum_i tanh(c f_i |d_i|) + revival * sum_i ReLU(theta_i - z_i) |d_i|
            "target_l0"  sparsity * (L0 / target_l0 - 1)^2,   L0 the mean over the batch

Source: Rajamanoharan et al. 2024 (arXiv:2407.14435), sections 3 and 4 ("l0"; "target_l0" from its appendix);
Anthropic, January 2025 update ("tanh"). Gradients in ops/jumprelu.py: that of "l0" reaches theta alone, that of
"tanh" every parameter. We keep log theta, as Anthropic does, so that theta stays positive.

The defaults are Gemma Scope's (arXiv:2408.05147), for inputs of mean squared norm 1 (`unit_mean_sq`); it goes
with rule `b1` 0, lr 7e-5, `decay_fraction` 0, `penalty_warmup_steps` 10000. Anthropic's: `penalty` "tanh",
`threshold_start` 0.1, `bandwidth` 2, `sparsity` 20, `subtract_b_dec` false, `start_density` 10000 / F,
`enc_scale` d_in / F, inputs `mean_norm_sqrt_d`; rule `unit_norm` false, lr 2e-4; learner `atom_norm` 0.58,
`b_dec_start` "zeros", `penalty_warmup_steps` the whole run. There the warm-up does not act on `revival`; here
it does. The bandwidth is on the scale of the input (UNSURE how the papers would scale it: linearly here).
UNSURE whether Anthropic's z has a gradient in the window: `window_gradient`, by default not. The sparsity is
to be swept: neither paper's grid is known to us. Compute in float32: bfloat16 does not resolve the window.
"""

import jax
import jax.numpy as jnp
from jax import lax

from dictlearn.dictionaries import _linear
from dictlearn.ops import jumprelu, penalties
from dictlearn.ops.encode import pre_activations
from dictlearn.ops.sparse import support
from dictlearn.types import Batch, Codes, Dictionary, Out, Scalar

PENALTIES = ("l0", "tanh", "target_l0")
MOST_TOKENS = 8192


class JumpReLU(Dictionary):
    """d_in: width of the input. n_latents: F. sparsity: the penalty's coefficient, on the scale of a
    squared error summed over D. penalty: "l0", "tanh" or "target_l0". threshold_start: of every theta.
    bandwidth: width of the window around theta. kernel: "rectangle", "triangle" or "gaussian".
    window_gradient: z has a gradient in the window too. tanh_scale: c. revival: the coefficient
    that lifts latents below their threshold. target_l0: active latents a token. start_density: share of
    tokens on which each latent fires at the start, by b_enc; None leaves b_enc at zero. enc_scale: the
    encoder's start over the decoder's. subtract_b_dec: from the input of an autoencoder. d_out: width of
    the target of a transcoder, which subtracts nothing; None makes an autoencoder."""

    d_in: int
    n_latents: int
    sparsity: Scalar = 1e-3
    penalty: str = "l0"
    threshold_start: Scalar = 1e-3
    bandwidth: Scalar = 1e-3
    kernel: str = "rectangle"
    window_gradient: bool = False
    tanh_scale: Scalar = 4.0
    revival: Scalar = 3e-6
    target_l0: Scalar = 32.0
    start_density: float | None = None
    enc_scale: float = 1.0
    subtract_b_dec: bool = True
    d_out: int | None = None

    def setup(self):
        for name, known in (("penalty", PENALTIES), ("kernel", tuple(jumprelu.KERNELS))):
            if getattr(self, name) not in known:
                value = getattr(self, name)
                raise ValueError(f"{name}={value!r} must be one of {', '.join(known)}.")
        for name in ("threshold_start", "bandwidth", "target_l0"):
            value = getattr(self, name)
            if isinstance(value, int | float) and not value > 0:
                raise ValueError(f"{name}={value} must be positive.")
        if self.start_density is not None and not 0 < self.start_density < 1:
            raise ValueError(
                f"start_density={self.start_density} must lie between 0 and 1; None for no start."
            )
        _linear.declare(self, self.enc_scale)
        log_threshold = lambda key: jnp.full(self.n_latents, jnp.log(self.threshold_start))
        self.log_threshold_F = self.param("log_threshold_F", log_threshold)

    def start(self, key, variables: dict, batch: Batch) -> dict:
        """`variables` with b_enc so that each latent fires on `start_density` of the batch's tokens."""
        if self.start_density is None:
            return variables
        params = variables["params"]
        x_BD = batch.x_BD[:MOST_TOKENS]
        if self.d_out is None and self.subtract_b_dec:
            x_BD = x_BD - params["b_dec_D"]
        z_BF = x_BD @ params["W_enc_FD"].T
        b_enc_F = jnp.exp(params["log_threshold_F"])
        b_enc_F = b_enc_F - jnp.quantile(z_BF, 1 - self.start_density, axis=0)
        return {**variables, "params": {**params, "b_enc_F": b_enc_F}}

    def encode(self, x_BD) -> Codes:
        return Codes(self._jump(_linear.pre(self, x_BD), self.threshold()))

    def decode(self, codes: Codes):
        return _linear.decode(self, codes)

    def threshold(self):
        """theta, `[F]`."""
        return jnp.exp(self.log_threshold_F)

    def __call__(self, x_BD, dead_F) -> Out:
        read, threshold_F = _linear.encoder(self, x_BD), self.threshold()
        reach = jumprelu.reach(self.bandwidth, self.kernel)
        if self.penalty == "tanh" or reach is None:
            pre_BF = _linear.product(*read)
            codes = Codes(self._jump(pre_BF, threshold_F))
            penalty_B = self._penalty(pre_BF, threshold_F, codes.val)
            return Out(self.decode(codes), codes, lax.stop_gradient(pre_BF), penalty_B)
        pre_BF = pre_activations(*read)
        above_BF = pre_BF - lax.stop_gradient(threshold_F)
        codes = Codes(jnp.where(above_BF > 0, pre_BF, 0))
        most, near_BF = _linear.crowd(self), above_BF + reach
        more = threshold_F, self.bandwidth, self.W_dec_FD
        y_BD = support.over(self._into, near_BF, pre_BF, most, *read, *more) + self.b_dec_D
        return Out(y_BD, codes, pre_BF, self._penalty(pre_BF, threshold_F, codes.val))

    def _into(self, entries, threshold_F, bandwidth, W_FD):
        theta, kernel, window = entries.of(threshold_F), self.kernel, self.window_gradient
        f = jumprelu.jump(entries.z, theta, bandwidth, kernel, window)
        return entries.decode(jnp.where(entries.on, jnp.asarray(f), 0), W_FD)

    def _jump(self, pre_BF, threshold_F):
        return jumprelu.jump(pre_BF, threshold_F, self.bandwidth, self.kernel, self.window_gradient)

    def _penalty(self, pre_BF, threshold_F, f_BF):
        if self.penalty == "tanh":
            norm_F = penalties.row_norms(self.W_dec_FD)
            below_B = penalties.l1(jax.nn.relu(threshold_F - pre_BF) * norm_F)
            size_B = penalties.tanh(f_BF * norm_F, self.tanh_scale)
            return self.sparsity * size_B + self.revival * below_B
        l0_B = penalties.l1(jumprelu.step(pre_BF, threshold_F, self.bandwidth, self.kernel))
        if self.penalty == "target_l0":
            l0_B = jnp.broadcast_to((l0_B.mean() / self.target_l0 - 1) ** 2, l0_B.shape)
        return self.sparsity * l0_B
