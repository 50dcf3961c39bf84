"""AbsTopK: keep the k pre-activations of largest magnitude of each token, with their signs.

    z = (x - b_dec) W_enc + b_enc      f = z * [|z| among the k largest]      yhat = f W_dec + b_dec

One latent represents both directions of its atom.

Source: Zhu, Khalili & Zhu 2025 (arXiv:2510.00404); hard thresholding is one proximal step of the l0
constraint.

Differs: unit atoms, bias and initialisation are as in our TopK. AuxK ranks dead latents by z, with its sign.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from dictlearn.dictionaries import _topk
from dictlearn.dictionaries._activations import Activation, Few, Weight
from dictlearn.ops.topk.by_score import top_by
from dictlearn.types import Codes, Scalar


class AbsTopK(Activation):
    """The activation, with these hyperparameters.

    Args:
        k: the number of active latents of a token, of either sign; it may be traced if `k_max`, its upper
            bound, is given.
    """

    k: Scalar
    k_max: int | None = None

    def setup(self):
        self._bound = _topk.bound(self.k, self.k_max, self.n_latents)

    def choose(self, pre_BF: Float[Array, "B F"], weight: Weight, dead_F: Bool[Array, " F"]) -> Few:
        val_BK, idx_BK = self._ranked(pre_BF)
        on_BK = jnp.broadcast_to(jnp.arange(self._bound) < self.k, val_BK.shape)
        return Few(val_BK, idx_BK, on_BK)

    def infer(self, pre_BF: Float[Array, "B F"], weight: Weight) -> Codes:
        _, idx_BK = self._ranked(pre_BF)
        val_BK = jnp.take_along_axis(pre_BF, idx_BK, axis=1)
        return Codes(val_BK * (jnp.arange(self._bound) < self.k), idx_BK)

    def _ranked(self, pre_BF):
        pre_BF = lax.stop_gradient(pre_BF)
        return top_by(jnp.abs(pre_BF), pre_BF, self._bound)
