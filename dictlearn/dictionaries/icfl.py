"""ICFL: codes by block matching pursuit, without gradient; only the atoms and the bias are trained.

    r = x - b_dec      J times:  S = the L atoms of largest <r, d>    v = argmin |r - v D_S|^2    r <- r - v D_S
    f = sum of all v         yhat = sg(f) D + b_dec

k is J L and `width` is L. Values may be negative. With L = 1 the codes are the codes of signed matching
pursuit.

Source: Donhauser et al. 2024 (iterative codebook feature learning, arXiv:2412.16247), algorithm "batched
OMP". The paper takes k = 100 and width = 5, on inputs that are PCA-whitened with control data and then scaled
to unit norm (stream normalisation `whiten`). It redraws near-duplicates (`revive`: rule `redraw`).
"""

from typing import ClassVar

from jaxtyping import Array, Bool, Float

from dictlearn.dictionaries import _atoms, _linear, _topk
from dictlearn.ops.pursuit import matching
from dictlearn.types import Codes, Dictionary, Out, Scalar, Tokens


class ICFL(Dictionary):
    """The dictionary, with these hyperparameters.

    Args:
        d_in: the width of the input.
        n_latents: F.
        k: the largest number of active latents of a token, which may be traced if `k_max`, its upper
            bound, is given.
        width: the number of atoms of a round, which must divide k_max.
        d_out: must be None.
    """

    transcodes: ClassVar[bool] = False

    d_in: int
    n_latents: int
    k: Scalar
    k_max: int | None = None
    width: int = 1
    d_out: int | None = None

    @classmethod
    def recommended(cls, *, d_in: int, n_latents: int, steps: int, l0: float) -> dict:
        k = max(1, round(l0))
        return {"dictionary": {"width": max(w for w in range(1, 6) if k % w == 0)}}

    def setup(self):
        _atoms.declare(self)

    def encode(self, x_BD: Tokens) -> Codes:
        return self._codes(x_BD)[0]

    def decode(self, codes: Codes) -> Float[Array, "B D"]:
        return _linear.decode(self, codes)

    def __call__(self, x_BD: Tokens, dead_F: Bool[Array, " F"]) -> Out:
        codes, pre_BF = self._codes(x_BD)
        return Out(self.decode(codes), codes, pre_BF)

    def _codes(self, x_BD):
        x_BD, k_max = _linear.centre(self, x_BD), _topk.bound(self.k, self.k_max, self.n_latents)
        search = {"width": self.width, "k": self.k}
        val_BK, idx_BK, pre_BF = matching.pursue(x_BD, self.W_dec_FD, k_max, **search)
        val_BK = matching.merge(val_BK, idx_BK).astype(x_BD.dtype)
        return Codes(val_BK, idx_BK), pre_BF.astype(x_BD.dtype)
