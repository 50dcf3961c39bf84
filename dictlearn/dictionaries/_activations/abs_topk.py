"""AbsTopK: the k pre-activations of largest magnitude, with their signs.

    z = (x - b_dec) W_enc + b_enc      f = z * [|z| among the k largest]      yhat = f W_dec + b_dec

One latent stands for both ends of an axis. Source: Zhu, Khalili & Zhu 2025 (arXiv:2510.00404), the hard
thresholding that one proximal step of the l0 constraint gives. Differs: unit atoms, bias and start are those of
our TopK. There is no AuxK, which rectifies; a latent that never fires has a small |z| on every token.
"""

import jax.numpy as jnp
from jax import lax

from dictlearn.dictionaries import _topk
from dictlearn.dictionaries._activations import Activation, Few
from dictlearn.ops.topk.by_score import top_by
from dictlearn.types import Codes, Scalar


class AbsTopK(Activation):
    """k: active latents a token, of either sign; may be traced if `k_max`, its bound, is given."""

    k: Scalar
    k_max: int | None = None

    def setup(self):
        self._most = _topk.most(self.k, self.k_max, self.n_latents)

    def choose(self, pre_BF, weight, dead_F) -> Few:
        val_BK, idx_BK = self._ranked(pre_BF)
        on_BK = jnp.broadcast_to(jnp.arange(self._most) < self.k, val_BK.shape)
        return Few(val_BK, idx_BK, on_BK)

    def infer(self, pre_BF, weight) -> Codes:
        _, idx_BK = self._ranked(pre_BF)
        val_BK = jnp.take_along_axis(pre_BF, idx_BK, axis=1)
        return Codes(val_BK * (jnp.arange(self._most) < self.k), idx_BK)

    def _ranked(self, pre_BF):
        pre_BF = lax.stop_gradient(pre_BF)
        return top_by(jnp.abs(pre_BF), pre_BF, self._most)
