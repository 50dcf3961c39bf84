"""BatchTopK: the B k largest rectified pre-activations of the whole batch; a threshold at inference.

    training   f = ReLU(z) * [ReLU(z) among the B k largest of the batch]
    inference  f = ReLU(z) * [ReLU(z) > theta],   theta = E_batches[smallest positive value kept]

Source: Bussmann et al. 2024 (arXiv:2412.06410), section 3. The batch is the global one: over shards the
threshold is found by counting (ops/batch_topk.py). theta is the running mean of the per-batch minima with
`threshold_decay`, corrected for its start at zero; the paper takes the mean over batches after training.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from dictlearn.dictionaries import _linear
from dictlearn.ops import auxk
from dictlearn.ops.batch_topk import batch_top
from dictlearn.types import Codes, Out, Scalar


class BatchTopK(nn.Module):
    """d_in: width of the input. n_latents: F. k: mean active latents a token, may be fractional and
    traced. aux_k: dead latents that AuxK uses a token, 0 for none. threshold_decay: of the running
    mean behind theta. d_out: width of the target of a transcoder; None makes an autoencoder."""

    d_in: int
    n_latents: int
    k: Scalar
    aux_k: int = 0
    threshold_decay: float = 0.999
    d_out: int | None = None

    def setup(self):
        if isinstance(self.k, int | float) and not 0 < self.k <= self.n_latents:
            raise ValueError(f"k={self.k} must lie between 0 and {self.n_latents=}.")
        if self.aux_k > self.n_latents:
            raise ValueError(f"{self.aux_k=} exceeds {self.n_latents=}.")
        _linear.declare(self)
        self.threshold_mean = self.variable("stats", "threshold_mean", jnp.zeros, ())
        self.threshold_weight = self.variable("stats", "threshold_weight", jnp.zeros, ())

    def encode(self, x_BD) -> Codes:
        f_BF = jax.nn.relu(self._pre(_linear.centre(self, x_BD)))
        return Codes(f_BF * (f_BF > self.threshold()))

    def decode(self, codes: Codes):
        return _linear.decode(self, codes)

    def threshold(self):
        """theta, a scalar; 0 before the first batch."""
        weight = self.threshold_weight.value
        return self.threshold_mean.value / jnp.where(weight > 0, weight, 1)

    def __call__(self, x_BD, dead_F) -> Out:
        x_BD = _linear.centre(self, x_BD)
        pre_BF = self._pre(x_BD)
        f_BF = jax.nn.relu(pre_BF)
        n = jnp.round(self.k * x_BD.shape[0]).astype(jnp.int32)
        f_BF = f_BF * batch_top(f_BF, n)
        self._remember(f_BF)
        codes = Codes(f_BF)
        residual_BD = None
        if self.aux_k:
            weights = self.W_enc_FD, self.b_enc_F, self.W_dec_FD
            residual_BD = auxk.reconstruct_residual(
                x_BD, pre_BF, codes, dead_F, *weights, self.aux_k
            )
        return Out(self.decode(codes), codes, lax.stop_gradient(pre_BF), residual_BD=residual_BD)

    def _pre(self, x_BD):
        return x_BD @ self.W_enc_FD.T + self.b_enc_F

    def _remember(self, f_BF):
        if self.is_initializing() or not self.is_mutable_collection("stats"):
            return
        f_BF = lax.stop_gradient(f_BF)
        least = jnp.min(jnp.where(f_BF > 0, f_BF, jnp.inf))
        found = jnp.isfinite(least)
        keep = jnp.where(found, self.threshold_decay, 1.0)
        least = jnp.where(found, least, 0.0)
        self.threshold_mean.value = keep * self.threshold_mean.value + (1 - keep) * least
        self.threshold_weight.value = keep * self.threshold_weight.value + (1 - keep)
