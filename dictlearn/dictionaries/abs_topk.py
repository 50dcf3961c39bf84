"""AbsTopK: the k pre-activations of largest magnitude, with their signs.

    z = (x - b_dec) W_enc + b_enc      f = z * [|z| among the k largest]      yhat = f W_dec + b_dec

One latent stands for both ends of an axis. Source: Zhu, Khalili & Zhu 2025 (arXiv:2510.00404), the hard
thresholding that one proximal step of the l0 constraint gives. Differs: unit atoms, bias and start are those of
our TopK. There is no AuxK, which rectifies; a latent that never fires has a small |z| on every token.
"""

import jax.numpy as jnp

from dictlearn.dictionaries import _allocation, _linear
from dictlearn.ops.encode import pre_activations
from dictlearn.ops.sparse import coding
from dictlearn.ops.topk.by_score import top_by
from dictlearn.types import Codes, Dictionary, Out, Scalar


class AbsTopK(Dictionary):
    """d_in: width of the input. n_latents: F. k: active latents a token, of either sign; may be traced
    if `k_max`, its bound, is given. d_out: width of the target of a transcoder; None makes an
    autoencoder, which subtracts b_dec."""

    d_in: int
    n_latents: int
    k: Scalar
    k_max: int | None = None
    d_out: int | None = None

    def setup(self):
        self._most = _allocation.most(self)
        _linear.declare(self)

    def encode(self, x_BD) -> Codes:
        return self._codes(x_BD)[0]

    def decode(self, codes: Codes):
        return _linear.decode(self, codes)

    def __call__(self, x_BD, dead_F) -> Out:
        codes, pre_BF = self._codes(x_BD)
        return Out(self.decode(codes), codes, pre_BF)

    def _codes(self, x_BD):
        read = _linear.encoder(self, x_BD)
        pre_BF = pre_activations(*read)
        val_BK, idx_BK = top_by(jnp.abs(pre_BF), pre_BF, self._most)
        val_BK = coding.select(val_BK, idx_BK, *read)
        return Codes(val_BK * (jnp.arange(self._most) < self.k), idx_BK), pre_BF
