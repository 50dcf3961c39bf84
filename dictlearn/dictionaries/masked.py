"""Masked objective: codes are found from a random subset of the coordinates, and the others are
reconstructed.

    M: observed coordinates, round(observed D) of them, redrawn at every step
    training   f = OMP_k(x_M in D_M)     yhat_M = x_M     yhat_rest = (sg(f) D + b_dec)_rest
    inference  f = OMP_k(x in D)         yhat = f D + b_dec

yhat equals the input at the observed coordinates, so any objective counts only the hidden coordinates and no
gradient reaches the others. The logged explained variance then compares the error of the hidden coordinates
with the variance of all. With `observed` = 1 every coordinate is used for the code and is reconstructed: the
standard objective, which fits the noise when F exceeds the number of planted features.

Source: Chidambaram et al. 2023 (arXiv:2302.12715).

Differs: they have no b_dec; a step of OMP selects the atom that leaves the smallest residual, also where
the observed parts of the atoms differ in norm.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from dictlearn.dictionaries import _atoms, _linear
from dictlearn.dictionaries._stats import Step, share
from dictlearn.ops.pursuit.orthogonal import orthogonal
from dictlearn.types import Codes, Dictionary, Out, Scalar, Tokens


class Masked(Dictionary):
    """The dictionary, with these hyperparameters.

    Args:
        d_in: the width of the input.
        n_latents: F.
        k: the number of active latents of a token.
        observed: the share of the coordinates that codes are found from in training, in (0, 1], which may
            be traced.
        seed: the seed of the masks.
        d_out: must be None.
    """

    transcodes: ClassVar[bool] = False

    d_in: int
    n_latents: int
    k: int
    observed: Scalar = 0.9
    seed: int = 0
    d_out: int | None = None

    def setup(self):
        if not 1 <= self.k <= min(self.n_latents, self.d_in):
            raise ValueError(
                f"k={self.k} must lie between 1 and the smaller of n_latents={self.n_latents} and "
                f"d_in={self.d_in}."
            )
        if isinstance(self.observed, int | float) and not 0 < self.observed <= 1:
            raise ValueError(f"observed={self.observed} is a share in (0, 1].")
        _atoms.declare(self)
        self.steps = Step()
        share(self, self.steps)

    def encode(self, x_BD: Tokens) -> Codes:
        return self._codes(x_BD, 1)[0]

    def decode(self, codes: Codes) -> Float[Array, "B D"]:
        return _linear.decode(self, codes)

    def __call__(self, x_BD: Tokens, dead_F: Bool[Array, " F"]) -> Out:
        rank_D = jax.random.permutation(self.steps.next_key(self.seed), self.d_in)
        n_observed = jnp.round(self.observed * self.d_in)
        seen_D = rank_D < n_observed
        codes, pre_BF = self._codes(x_BD, seen_D)
        shown_D = seen_D & (n_observed < self.d_in)
        y_BD = jnp.where(shown_D, lax.stop_gradient(x_BD), self.decode(codes))
        return Out(y_BD, codes, pre_BF)

    def _codes(self, x_BD, seen_D):
        x_BD, atoms_FD = _linear.centre(self, x_BD) * seen_D, self.W_dec_FD * seen_D
        val_BK, idx_BK, pre_BF = orthogonal(x_BD, atoms_FD, self.k)
        return Codes(val_BK.astype(x_BD.dtype), idx_BK), pre_BF.astype(x_BD.dtype)
