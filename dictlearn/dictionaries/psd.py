"""Predictive sparse decomposition: an encoder learns to predict sparse codes that are drawn to its prediction.

    F(x) = g tanh((x - b_dec) W_enc + b_enc)
    f* = argmin_f 1/2 |x - b_dec - f D|^2 + l1 |f|_1 + alpha |f - F(x)|^2      by FISTA from F(x)
    training: yhat = sg(f*) D + b_dec, penalty = alpha |sg(f*) - F(x)|^2        inference: f = F(x)

Source: Kavukcuoglu, Ranzato & LeCun 2008 (arXiv:1010.3467). Unsure of the
paper's minimiser and l1: we take FISTA, and l1 = 0.5 on whitened inputs. The encoder has no sparsity of its
own: every latent of `encode` is active. `positive` codes, our default, are not theirs.
"""

from typing import ClassVar

import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from dictlearn.dictionaries import _atoms, _linear
from dictlearn.ops import shrinkage
from dictlearn.types import Codes, Dictionary, Out, Scalar


class PSD(Dictionary):
    """d_in: width of the input. n_latents: F. l1: weight of the penalty, may be traced. alpha: of the pull
    between code and prediction, may be traced. iterations: of FISTA. positive: whether the codes f* are
    non-negative. d_out: must be None."""

    transcodes: ClassVar[bool] = False

    d_in: int
    n_latents: int
    l1: Scalar
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
        """Another function at another scale of the input."""
        return False

    def encode(self, x_BD) -> Codes:
        return Codes(self.gain_F * jnp.tanh(self._pre(x_BD)))

    def decode(self, codes: Codes):
        return _linear.decode(self, codes)

    def __call__(self, x_BD, dead_F) -> Out:
        predicted_BF, pre_BF = self.encode(x_BD).val, self._pre(x_BD)
        fixed = _linear.centre(self, x_BD), self.W_dec_FD, predicted_BF
        x_BD, atoms_FD, towards_BF = lax.stop_gradient(fixed)
        pull = shrinkage.Pull(self.alpha, towards_BF)
        search = {"positive": self.positive, "start_BF": towards_BF, "pull": pull}
        best_BF = shrinkage.fista(x_BD, atoms_FD, self.l1, self.iterations, **search)
        codes = Codes(best_BF.astype(x_BD.dtype))
        penalty_B = self.alpha * jnp.sum((codes.val - predicted_BF) ** 2, -1)
        return Out(self.decode(codes), codes, lax.stop_gradient(pre_BF), penalty_B)

    def _pre(self, x_BD):
        x_BD = lax.stop_gradient(_linear.centre(self, x_BD))
        return x_BD @ self.W_enc_FD.T + self.b_enc_F
