"""Gradient SAE: TopK whose selection also reads the gradient of the language model's loss along each atom.

    z = (x - b_dec) W_enc + b_enc      a = W_dec g,   g = dL/dx
    f = ReLU(z) [q among the k largest of the token],   q = ReLU(z) (1 + beta |a|)       yhat = f W_dec + b_dec

With beta = 0 this is TopK; as beta -> inf it ranks by the first-order effect |f_i dL/df_i| of ablating a
latent. Loss and AuxK are TopK's; no gradient reaches the selection. Without g (None), the latents
are selected as in TopK: use `encode(x)` where the loss is not known and `encode(x, g)` where it is. A
batch without g trains a TopK.

Source: Olmo et al. 2024 (arXiv:2411.10397), section 3, read at second hand.

UNSURE, and so our choice: L is summed over the sequence. g has a root mean square of 1 over tokens and
dimensions (the streams scale it), so that beta has no unit and |a| is near 1 for unit atoms. AuxK ranks dead
latents by z.
"""

from typing import ClassVar

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool

from dictlearn.dictionaries import _atoms
from dictlearn.dictionaries._linear import Linear
from dictlearn.types import Codes, Out, Scalar, Tokens


class GSAE(Linear):
    """The dictionary, with these hyperparameters.

    Args:
        beta: the weight of the gradient in the selection, which may be traced.
        d_out: must be None.

    The other fields are as in `Linear` and `TopK`.
    """

    transcodes: ClassVar[bool] = False
    reads_gradient: ClassVar[bool] = True
    """`encode` and `__call__` also take g_BD, which a stream provides with `gradients`."""
    takes = ("topk",)
    because = "the gradient changes the ranking of a token's latents, and a threshold does not rank"

    beta: Scalar = 1.0

    def _check(self):
        super()._check()
        _atoms.refuse_transcoder(self)
        if isinstance(self.beta, int | float) and not self.beta >= 0:
            raise ValueError(f"{self.beta=} must be 0 or more.")

    def encode(self, x_BD: Tokens, g_BD: Tokens | None = None) -> Codes:
        return self._encode(x_BD, self._scaled(g_BD))

    def __call__(
        self,
        x_BD: Tokens,
        dead_F: Bool[Array, " F"],
        g_BD: Tokens | None = None,
    ) -> Out:
        return self._train(x_BD, dead_F, self._scaled(g_BD))

    def _scaled(self, g_BD):
        """The factor of the scores: `1 + beta |a|`, times the norms of the atoms where the activation needs
        them."""
        weight = self.weight()
        if g_BD is None:
            return weight
        along_BF = jnp.abs(lax.stop_gradient(g_BD @ self.W_dec_FD.T))
        scale_BF = 1 + self.beta * along_BF
        return scale_BF if weight is None else scale_BF * weight
