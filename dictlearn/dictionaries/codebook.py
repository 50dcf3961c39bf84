"""Codebook features: the output is the mean of the k codes nearest to the input, without coefficients.

    S = the k codes of largest score     inner: <x, c> / |c|     euclid: -|x - c|^2
    yhat = mean_{c in S} c               (`combine` "sum": their sum)

The codes receive the gradient of the reconstruction (the authors' "aeloss"); yhat passes its gradient to
x unchanged (straight-through), which an edited network needs for training. With k = 1 and "euclid" this
is VQ.

Source: Tamkin, Taufeeque & Goodman 2023 (arXiv:2310.17230). Inner products and the mean are as in the
code; the paper writes a sum.

Differs: codes start at rows of the sample, not at Gaussian noise. The layer norm is the stream's normalisation
`token_layernorm`. There is no commitment term, because it trains the layers before the codebook.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from dictlearn.dictionaries import _atoms, _linear, _topk
from dictlearn.ops.initialise import unit_rows
from dictlearn.ops.topk.exact import top_k
from dictlearn.types import Batch, Codes, Dictionary, Out, Scalar, Tokens


class Codebook(Dictionary):
    """The dictionary, with these hyperparameters.

    Args:
        d_in: the width of the input.
        n_latents: F, the number of codes.
        k: the number of codes of a token, which may be traced if `k_max`, its upper bound, is given.
        score: "inner" or "euclid".
        combine: "mean" or "sum".
        d_out: must be None.
    """

    transcodes: ClassVar[bool] = False

    d_in: int
    n_latents: int
    k: Scalar
    k_max: int | None = None
    score: str = "inner"
    combine: str = "mean"
    d_out: int | None = None

    def setup(self):
        _atoms.refuse_transcoder(self)
        self._bound = _topk.bound(self.k, self.k_max, self.n_latents)
        if self.score not in ("inner", "euclid") or self.combine not in ("mean", "sum"):
            raise ValueError(
                f"score={self.score!r} must be inner or euclid, combine={self.combine!r} mean or sum."
            )
        self.code_FD = self.param("code_FD", unit_rows, (self.n_latents, self.d_in))

    def start(self, key: jax.Array, variables: dict, batch: Batch) -> dict:
        """`variables` with each code at a row of the batch, at different rows while there are enough."""
        x_BD = batch.x_BD
        order = jax.random.permutation(key, len(x_BD))
        rows_FD = x_BD[order[jnp.arange(self.n_latents) % len(x_BD)]]
        noise_FD = unit_rows(key, rows_FD.shape, rows_FD.dtype)
        rows_FD = rows_FD + 0.01 * jnp.linalg.norm(x_BD, axis=1).mean() * noise_FD
        return {**variables, "params": {**variables["params"], "code_FD": rows_FD}}

    @property
    def foldable(self) -> bool:
        """It is another function when the scale of the input changes."""
        return False

    def encode(self, x_BD: Tokens) -> Codes:
        return self._codes(x_BD)[0]

    def decode(self, codes: Codes) -> Float[Array, "B D"]:
        return _linear.from_atoms(codes, self.code_FD)

    def __call__(self, x_BD: Tokens, dead_F: Bool[Array, " F"]) -> Out:
        codes, pre_BF = self._codes(x_BD)
        y_BD = self.decode(codes)
        return Out(y_BD + (x_BD - lax.stop_gradient(x_BD)), codes, pre_BF)

    def _codes(self, x_BD):
        x_BD, code_FD = lax.stop_gradient((jnp.asarray(x_BD), self.code_FD))
        square_F = jnp.sum(code_FD**2, 1)
        pre_BF = x_BD @ code_FD.T
        if self.score == "inner":
            pre_BF = pre_BF / jnp.sqrt(jnp.where(square_F > 0, square_F, 1))
        else:
            pre_BF = pre_BF - square_F / 2
        _, idx_BK = top_k(pre_BF, self._bound)
        kept_K = (jnp.arange(self._bound) < self.k) / (self.k if self.combine == "mean" else 1)
        val_BK = jnp.broadcast_to(kept_K.astype(x_BD.dtype), idx_BK.shape)
        return Codes(val_BK, idx_BK), pre_BF
