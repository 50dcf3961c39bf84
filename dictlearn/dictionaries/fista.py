"""Sparse coding: codes are the L1 minimum by FISTA, the atoms and the bias learn by gradient at those codes.

    f = argmin_f 1/2 |x - b_dec - f D|^2 + l1 |f|_1        yhat = sg(f) D + b_dec

Source: Olshausen & Field 1996; Beck & Teboulle 2009 (FISTA); Mairal et al. 2009 for learning at the minimum,
where the loss depends on the atoms alone. `l1` is on the scale of half a squared error summed over D.
Inference is the same search. Scaling the input scales no code unless l1 is scaled too.
"""

from typing import ClassVar

from jax import lax

from dictlearn.dictionaries import _atoms, _linear
from dictlearn.ops import shrinkage
from dictlearn.types import Codes, Dictionary, Out, Scalar


class FISTA(Dictionary):
    """d_in: width of the input. n_latents: F. l1: weight of the penalty, may be traced. iterations: of the
    search. positive: whether codes are non-negative, as the metrics expect. d_out: must be None."""

    transcodes: ClassVar[bool] = False

    d_in: int
    n_latents: int
    l1: Scalar
    iterations: int = 50
    positive: bool = True
    d_out: int | None = None

    def setup(self):
        _atoms.declare(self)

    @property
    def foldable(self) -> bool:
        """Another function at another scale of the input."""
        return False

    def encode(self, x_BD) -> Codes:
        x_BD, atoms_FD = lax.stop_gradient((_linear.centre(self, x_BD), self.W_dec_FD))
        f_BF = shrinkage.fista(x_BD, atoms_FD, self.l1, self.iterations, positive=self.positive)
        return Codes(f_BF.astype(x_BD.dtype))

    def decode(self, codes: Codes):
        return _linear.decode(self, codes)

    def __call__(self, x_BD, dead_F) -> Out:
        codes = self.encode(x_BD)
        pre_BF = _linear.centre(self, x_BD) @ self.W_dec_FD.T - self.l1
        return Out(self.decode(codes), codes, lax.stop_gradient(pre_BF))
