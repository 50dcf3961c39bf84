"""LISTA: a few layers of learned shrinkage predict the sparse code that FISTA would find.

    u = (x - b_dec) W_enc     f_1 = S_theta(u)     f_{t+1} = S_theta(u + f_t - (f_t W_out) W_back^T)
    f* = argmin 1/2 |x - b_dec - f D|^2 + sparsity |f|_1  (FISTA)
    training: yhat = sg(f*) D + b_dec, penalty = |f - sg(f*)|^2          inference: f, yhat = f D + b_dec

The network starts as `layers` steps of ISTA on D: W_enc = W_back = D / L, W_out = D, theta = sparsity /
L, where L is the largest eigenvalue of D D^T.

Source: Gregor & LeCun 2010.

Differs: their inhibition matrix S, `[F, F]`, is I - W_out W_back^T, two matrices `[F, D]`. D is learned at the
same time, at the codes f*; they take it as given. The penalty trains only the network.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from dictlearn.dictionaries import _atoms, _linear
from dictlearn.ops import shrinkage
from dictlearn.types import Batch, Codes, Dictionary, Out, Scalar, Tokens


class LISTA(Dictionary):
    """The dictionary, with these hyperparameters.

    Args:
        d_in: the width of the input.
        n_latents: F.
        sparsity: the coefficient of the L1 penalty of f*, which may be traced.
        layers: the number of layers of the network.
        iterations: the number of FISTA iterations.
        positive: whether codes are non-negative.
        d_out: must be None.
    """

    transcodes: ClassVar[bool] = False

    d_in: int
    n_latents: int
    sparsity: Scalar
    layers: int = 3
    iterations: int = 50
    positive: bool = True
    d_out: int | None = None

    def setup(self):
        if self.layers < 1:
            raise ValueError(f"layers={self.layers} must be at least 1.")
        _atoms.declare(self)
        analytic = lambda leaf: lambda _: self._analytic(self.W_dec_FD)[leaf]
        self.W_enc_FD = self.param("W_enc_FD", analytic("W_enc_FD"))
        self.W_out_FD = self.param("W_out_FD", analytic("W_out_FD"))
        self.W_back_FD = self.param("W_back_FD", analytic("W_back_FD"))
        self.threshold_F = self.param("threshold_F", analytic("threshold_F"))

    def start(self, key: jax.Array, variables: dict, batch: Batch) -> dict:
        """`variables` with the network initialised as ISTA on the atoms that the learner initialised."""
        params = variables["params"]
        return {**variables, "params": {**params, **self._analytic(params["W_dec_FD"])}}

    def encode(self, x_BD: Tokens) -> Codes:
        x_BD = lax.stop_gradient(_linear.centre(self, x_BD))
        u_BF = x_BD @ self.W_enc_FD.T
        f_BF = shrinkage.soft(u_BF, self.threshold_F, self.positive)
        for _ in range(self.layers - 1):
            u_t_BF = u_BF + f_BF - (f_BF @ self.W_out_FD) @ self.W_back_FD.T
            f_BF = shrinkage.soft(u_t_BF, self.threshold_F, self.positive)
        return Codes(f_BF)

    def decode(self, codes: Codes) -> Float[Array, "B D"]:
        return _linear.decode(self, codes)

    def __call__(self, x_BD: Tokens, dead_F: Bool[Array, " F"]) -> Out:
        f_BF = self.encode(x_BD).val
        x_BD, atoms_FD = lax.stop_gradient((_linear.centre(self, x_BD), self.W_dec_FD))
        best_BF = shrinkage.fista(
            x_BD, atoms_FD, self.sparsity, self.iterations, positive=self.positive
        )
        codes = Codes(best_BF.astype(x_BD.dtype))
        penalty_B = jnp.sum((f_BF - codes.val) ** 2, -1)
        pre_BF = lax.stop_gradient(x_BD @ self.W_enc_FD.T - self.threshold_F)
        return Out(self.decode(codes), codes, pre_BF, penalty_B)

    def _analytic(self, W_dec_FD) -> dict:
        L = shrinkage.lipschitz(W_dec_FD)
        threshold_F = jnp.full(len(W_dec_FD), 1.0, W_dec_FD.dtype) * self.sparsity / L
        scaled = W_dec_FD / L
        return {
            "W_enc_FD": scaled,
            "W_out_FD": W_dec_FD,
            "W_back_FD": scaled,
            "threshold_F": threshold_F,
        }
