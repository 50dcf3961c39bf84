"""Gradient SAE: TopK whose choice also sees what the language model's loss does along each atom.

    z = (x - b_dec) W_enc + b_enc      a = W_dec g,   g = dL/dx
    f = ReLU(z) [q among the k largest of the token],   q = ReLU(z) (1 + beta |a|)       yhat = f W_dec + b_dec

Source: Olmo et al. 2024 (arXiv:2411.10397), section 3, read at second hand. beta = 0 is TopK; beta -> inf ranks
by the first-order effect |f_i dL/df_i| of leaving a latent out. Loss and AuxK are TopK's; no gradient reaches
the choice. Without g (None) a token's latents are chosen as TopK's are: `encode(x)` is the dictionary where the
loss is not known, `encode(x, g)` with it, and a batch that carries no g trains a TopK.
UNSURE, and so ours: L is summed over the sequence, g has a root mean square of 1 over tokens and dimensions
(streams scale it), so that beta has no unit and |a| is near 1 for unit atoms; dead latents for AuxK rank by z.
"""

from typing import ClassVar

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool

from dictlearn.dictionaries import _atoms
from dictlearn.dictionaries._linear import Linear
from dictlearn.types import Codes, Out, Scalar, Tokens


class GSAE(Linear):
    """beta: weight of the gradient in the choice, may be traced. d_out: must be None. All else as in `Linear`
    and `TopK`."""

    transcodes: ClassVar[bool] = False
    reads_gradient: ClassVar[bool] = True
    """`encode` and `__call__` take g_BD too, of the batches' `gradients`."""
    takes = ("topk",)
    because = "the gradient changes the order of a token's latents, and a threshold sees no order"

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
        """What scores are multiplied by: `1 + beta |a|`, of what a latent adds where that is asked for."""
        weight = self.weight()
        if g_BD is None:
            return weight
        along_BF = jnp.abs(lax.stop_gradient(g_BD @ self.W_dec_FD.T))
        scale_BF = 1 + self.beta * along_BF
        return scale_BF if weight is None else scale_BF * weight
