"""ReLU with an L1 penalty on its latents.

    f = ReLU((x - b_dec) W_enc + b_enc)     yhat = f W_dec + b_dec     penalty = l1 * sum_i f_i

Source: Bricken et al. 2023 (Towards Monosemanticity), with unit-norm rows of W_dec held by a rule; without
them the penalty is gamed by growing W_dec. `l1` is on the scale of a squared error summed over D.
"""

import jax
from flax import linen as nn
from jax import lax

from dictlearn.dictionaries import _linear
from dictlearn.types import Codes, Out, Scalar


class ReLU(nn.Module):
    """d_in: width of the input. n_latents: F. l1: the penalty's coefficient, may be traced.
    d_out: width of the target of a transcoder; None makes an autoencoder, which subtracts b_dec."""

    d_in: int
    n_latents: int
    l1: Scalar
    d_out: int | None = None

    def setup(self):
        _linear.declare(self)

    def encode(self, x_BD) -> Codes:
        return Codes(jax.nn.relu(self._pre(x_BD)))

    def decode(self, codes: Codes):
        return _linear.decode(self, codes)

    def __call__(self, x_BD, dead_F) -> Out:
        pre_BF = self._pre(x_BD)
        codes = Codes(jax.nn.relu(pre_BF))
        penalty_B = self.l1 * codes.val.sum(-1)
        return Out(self.decode(codes), codes, lax.stop_gradient(pre_BF), penalty_B)

    def _pre(self, x_BD):
        return _linear.centre(self, x_BD) @ self.W_enc_FD.T + self.b_enc_F
