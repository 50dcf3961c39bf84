"""Cross-layer transcoder: the latents of each layer read that layer and write to it and to all later ones.

    z^l = x^l W_enc^l + b_enc^l    f^l = z^l [z^l > theta^l]    yhat^l = sum_{m <= l} f^m W_dec^{m->l} + b_dec^l
    penalty = sparsity * sum_i tanh(c f_i |d_i|),      d_i: all that latent i writes, side by side

x = [x^1 ... x^L] and y = [y^1 ... y^L] stand side by side (`mlp_in.*` to `mlp_out.*`). Latent i is of layer i
mod L: a mesh that splits latents then gives every device the same share of every layer, and no layer's
product moves a code. W_enc_FD has only the columns of its latent's layer, and `W_dec_m_FD`, the F / L latents
of layer m, only those of the layers m, m + 1, ...: L (L + 1) / 2 decoders.

Source: Ameisen et al. 2025, "Circuit tracing", appendix on cross-layer transcoders, read at second hand.
UNSURE: theta 0.03 and a window of 1 at the start, c, and the sparsity, which is to be swept with learner
`penalty_warmup_steps` the whole run; inputs and outputs normalised layer by layer (`mean_norm_sqrt_d`), rule
`unit_norm` false. Gradients in ops/jumprelu.py. Without `d_out` the targets are the inputs, less b_dec.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from dictlearn.dictionaries import _linear, _sources
from dictlearn.ops import jumprelu, penalties, sources
from dictlearn.ops.firing import dense
from dictlearn.types import Codes, Dictionary, Out, Scalar


class CLT(Dictionary):
    """d_in: width of all layers' inputs together. n_latents: F, of all layers. sources: L, which divides
    both. sparsity: the penalty's coefficient, on the scale of a squared error summed over all layers.
    tanh_scale: c. threshold_start: of every theta. bandwidth: width of the window around theta. d_out:
    width of all targets together, None where they are the inputs."""

    d_in: int
    n_latents: int
    sources: int = 2
    sparsity: Scalar = 1e-3
    tanh_scale: Scalar = 4.0
    threshold_start: Scalar = 0.03
    bandwidth: Scalar = 1.0
    d_out: int | None = None

    def setup(self):
        _sources.check(self)
        n = self.sources
        if self.n_latents < n or self.n_latents % n:
            raise ValueError(
                f"n_latents={self.n_latents} must be a multiple of sources={n}, as many for each layer."
            )
        each, d_in, d_out = self.n_latents // n, self.d_in // n, (self.d_out or self.d_in) // n
        uniform = lambda bound: (
            lambda key, shape: jax.random.uniform(key, shape, minval=-bound, maxval=bound)
        )
        self.W_enc_FD = self.param("W_enc_FD", uniform(each**-0.5), (self.n_latents, d_in))
        write = uniform((n * d_out) ** -0.5)
        self.decoders = [
            self.param(f"W_dec_{m}_FD", write, (each, (n - m) * d_out)) for m in range(n)
        ]
        self.b_enc_F = self.param("b_enc_F", nn.initializers.zeros, (self.n_latents,))
        self.b_dec_D = self.param("b_dec_D", nn.initializers.zeros, (n * d_out,))
        log_threshold = lambda key: jnp.full(self.n_latents, jnp.log(self.threshold_start))
        self.log_threshold_F = self.param("log_threshold_F", log_threshold)

    def encode(self, x_BD) -> Codes:
        return Codes(self._jump(self._pre(x_BD)))

    def decode(self, codes: Codes):
        f_BFL = dense(codes, self.n_latents).reshape(len(codes.val), -1, self.sources)
        width = len(self.b_dec_D) // self.sources
        y_BD = self.b_dec_D
        for m, W_FD in enumerate(self.decoders):
            y_BD += jnp.pad(f_BFL[:, :, m] @ W_FD, ((0, 0), (m * width, 0)))
        return y_BD

    def threshold(self):
        """theta, `[F]`."""
        return jnp.exp(self.log_threshold_F)

    def __call__(self, x_BD, dead_F) -> Out:
        pre_BF = self._pre(x_BD)
        codes = Codes(self._jump(pre_BF))
        norm_FL = jnp.stack([penalties.row_norms(W_FD) for W_FD in self.decoders], axis=1)
        size_B = penalties.tanh(codes.val * norm_FL.reshape(-1), self.tanh_scale)
        return Out(self.decode(codes), codes, lax.stop_gradient(pre_BF), self.sparsity * size_B)

    def _pre(self, x_BD):
        x_BLD = sources.split(_linear.centre(self, x_BD), self.sources)
        W_FLD = self.W_enc_FD.reshape(-1, self.sources, self.W_enc_FD.shape[1])
        pre_BF = jnp.einsum("bld,fld->bfl", x_BLD, W_FLD).reshape(len(x_BD), -1)
        return pre_BF + self.b_enc_F

    def _jump(self, pre_BF):
        return jumprelu.jump(pre_BF, self.threshold(), self.bandwidth)
