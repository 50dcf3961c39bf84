"""Sparse coding: codes minimise the lasso objective (by FISTA); atoms and bias learn by gradient at these
codes.

    f = argmin_f 1/2 |x - b_dec - f D|^2 + sparsity |f|_1        yhat = sg(f) D + b_dec

`sparsity` is on the scale of half a squared error summed over D. Inference runs the same search. Scaling
the input scales the codes only if the sparsity is scaled too.

Source: Olshausen & Field 1996; Beck & Teboulle 2009 (FISTA); Mairal et al. 2009 for learning at the
minimum, where the loss depends only on the atoms.
"""

from typing import ClassVar

from jax import lax
from jaxtyping import Array, Bool, Float

from dictlearn.dictionaries import _atoms, _linear
from dictlearn.ops import shrinkage
from dictlearn.types import Codes, Dictionary, Out, Scalar, Tokens


class FISTA(Dictionary):
    """The dictionary, with these hyperparameters.

    Args:
        d_in: the width of the input.
        n_latents: F.
        sparsity: the coefficient of the L1 penalty, which may be traced.
        iterations: the number of FISTA iterations.
        positive: whether codes are non-negative, as the metrics expect.
        d_out: must be None.
    """

    transcodes: ClassVar[bool] = False

    d_in: int
    n_latents: int
    sparsity: Scalar
    iterations: int = 50
    positive: bool = True
    d_out: int | None = None

    def setup(self):
        _atoms.declare(self)

    @property
    def foldable(self) -> bool:
        """It is another function when the scale of the input changes."""
        return False

    def encode(self, x_BD: Tokens) -> Codes:
        x_BD, atoms_FD = lax.stop_gradient((_linear.centre(self, x_BD), self.W_dec_FD))
        f_BF = shrinkage.fista(
            x_BD, atoms_FD, self.sparsity, self.iterations, positive=self.positive
        )
        return Codes(f_BF.astype(x_BD.dtype))

    def decode(self, codes: Codes) -> Float[Array, "B D"]:
        return _linear.decode(self, codes)

    def __call__(self, x_BD: Tokens, dead_F: Bool[Array, " F"]) -> Out:
        codes = self.encode(x_BD)
        pre_BF = _linear.centre(self, x_BD) @ self.W_dec_FD.T - self.sparsity
        return Out(self.decode(codes), codes, lax.stop_gradient(pre_BF))
