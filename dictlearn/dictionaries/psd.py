"""Predictive sparse decomposition: an encoder learns to predict sparse codes that are pulled to its
prediction.

    F(x) = g tanh((x - b_dec) W_enc + b_enc)
    f* = argmin_f 1/2 |x - b_dec - f D|^2 + sparsity |f|_1 + alpha |f - F(x)|^2      by FISTA from F(x)
    training: yhat = sg(f*) D + b_dec, penalty = alpha |sg(f*) - F(x)|^2        inference: f = F(x)

The encoder itself is not sparse: every latent of `encode` is active.

Source: Kavukcuoglu, Ranzato & LeCun 2008 (arXiv:1010.3467).

Differs: `positive` codes, our default. UNSURE of the paper's minimiser and coefficient: we take FISTA,
and sparsity = 0.5 on whitened inputs.
"""

from typing import ClassVar

import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Bool, Float

from dictlearn.dictionaries import _atoms, _linear
from dictlearn.ops import shrinkage
from dictlearn.types import Codes, Dictionary, Out, Scalar, Tokens


class PSD(Dictionary):
    """The dictionary, with these hyperparameters.

    Args:
        d_in: the width of the input.
        n_latents: F.
        sparsity: the coefficient of the L1 penalty, which may be traced.
        alpha: the coefficient of the pull between code and prediction, which may be traced.
        iterations: the number of FISTA iterations.
        positive: whether the codes f* are non-negative.
        d_out: must be None.
    """

    transcodes: ClassVar[bool] = False

    d_in: int
    n_latents: int
    sparsity: Scalar
    alpha: Scalar = 1.0
    iterations: int = 50
    positive: bool = True
    d_out: int | None = None

    def setup(self):
        _atoms.declare(self)
        self.W_enc_FD = self.param("W_enc_FD", lambda key: self.W_dec_FD)
        self.b_enc_F = self.param("b_enc_F", nn.initializers.zeros, (self.n_latents,))
        self.gain_F = self.param("gain_F", nn.initializers.ones, (self.n_latents,))

    @property
    def foldable(self) -> bool:
        """It is another function when the scale of the input changes."""
        return False

    def encode(self, x_BD: Tokens) -> Codes:
        return Codes(self.gain_F * jnp.tanh(self._pre(x_BD)))

    def decode(self, codes: Codes) -> Float[Array, "B D"]:
        return _linear.decode(self, codes)

    def __call__(self, x_BD: Tokens, dead_F: Bool[Array, " F"]) -> Out:
        predicted_BF, pre_BF = self.encode(x_BD).val, self._pre(x_BD)
        fixed = _linear.centre(self, x_BD), self.W_dec_FD, predicted_BF
        x_BD, atoms_FD, towards_BF = lax.stop_gradient(fixed)
        pull = shrinkage.Pull(self.alpha, towards_BF)
        search = {"positive": self.positive, "start_BF": towards_BF, "pull": pull}
        best_BF = shrinkage.fista(x_BD, atoms_FD, self.sparsity, self.iterations, **search)
        codes = Codes(best_BF.astype(x_BD.dtype))
        penalty_B = self.alpha * jnp.sum((codes.val - predicted_BF) ** 2, -1)
        return Out(self.decode(codes), codes, lax.stop_gradient(pre_BF), penalty_B)

    def _pre(self, x_BD):
        x_BD = lax.stop_gradient(_linear.centre(self, x_BD))
        return x_BD @ self.W_enc_FD.T + self.b_enc_F
