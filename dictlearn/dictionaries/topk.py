"""TopK: the k largest pre-activations of each token, rectified.

    z = (x - b_dec) W_enc + b_enc      f = ReLU(TopK_k(z))      yhat = f W_dec + b_dec

Source: Makhzani & Frey 2013 (arXiv:1312.5663); Gao et al. 2024 (arXiv:2406.04093), equations 4-5, AuxK
from section A.2. A token with fewer than k positive pre-activations has fewer than k active latents.
The gradient reaches only the entries kept, and is as sparse as they are.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from dictlearn.dictionaries import _linear
from dictlearn.ops import auxk, sparse
from dictlearn.ops.encode import pre_activations
from dictlearn.ops.topk import top_k
from dictlearn.types import Codes, Out, Scalar


class TopK(nn.Module):
    """d_in: width of the input. n_latents: F. k: active latents a token; may be traced if `k_max`, its
    bound, is given. aux_k: dead latents that AuxK uses a token, 0 for none (the paper: about d_in / 2).
    d_out: width of the target of a transcoder; None makes an autoencoder, which subtracts b_dec."""

    d_in: int
    n_latents: int
    k: Scalar
    k_max: int | None = None
    aux_k: int = 0
    d_out: int | None = None

    def setup(self):
        if self.k_max is None and not isinstance(self.k, int):
            raise ValueError(f"k={self.k} is not an int; give k_max, the most entries kept.")
        if isinstance(self.k, int) and not 1 <= self.k <= self._k_max:
            raise ValueError(f"k={self.k} must lie between 1 and k_max={self._k_max}.")
        if max(self._k_max, self.aux_k) > self.n_latents:
            raise ValueError(f"k_max={self._k_max}, {self.aux_k=} exceed {self.n_latents=}.")
        _linear.declare(self)

    @property
    def _k_max(self) -> int:
        return int(self.k) if self.k_max is None else self.k_max

    def encode(self, x_BD) -> Codes:
        return self._codes(_linear.centre(self, x_BD))[0]

    def decode(self, codes: Codes):
        return _linear.decode(self, codes)

    def __call__(self, x_BD, dead_F) -> Out:
        x_BD = _linear.centre(self, x_BD)
        codes, pre_BF = self._codes(x_BD)
        residual_BD = None
        if self.aux_k:
            weights = self.W_enc_FD, self.b_enc_F, self.W_dec_FD
            residual_BD = auxk.reconstruct_residual(
                x_BD, pre_BF, codes, dead_F, *weights, self.aux_k
            )
        return Out(self.decode(codes), codes, pre_BF, residual_BD=residual_BD)

    def _codes(self, x_BD):
        pre_BF = pre_activations(x_BD, self.W_enc_FD, self.b_enc_F)
        val_BK, idx_BK = top_k(pre_BF, self._k_max)
        val_BK = sparse.select(val_BK, idx_BK, x_BD, self.W_enc_FD, self.b_enc_F)
        kept = jnp.arange(self._k_max) < self.k
        return Codes(jax.nn.relu(val_BK) * kept, idx_BK), pre_BF
