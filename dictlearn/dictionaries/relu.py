"""ReLU with a penalty on the size of its latents.

    f = ReLU((x - b_dec) W_enc + b_enc)     yhat = f W_dec + b_dec
    penalty = l1 * sum_i phi(f_i w_i),      phi(f) = f | sqrt(f) | tanh(c f),    w_i = 1 | |d_i|

Source, and the settings that make each:
  Bricken et al. 2023 (Towards Monosemanticity)   as the defaults are: penalty "l1", w = 1, unit atoms held by
      the rule (`unit_norm`), without which the penalty is gamed by growing W_dec.
  Conerly et al. 2024 (Anthropic, April update)   `weight_by_norm` true, `subtract_b_dec` false; rule
      `unit_norm` false and lr 5e-5; learner `atom_norm` 0.1, `b_dec_start` "zeros" and
      `penalty_warmup_steps` a twentieth of the run; normalisation `mean_norm_sqrt_d`, l1 about 5.
  Jermyn et al. 2024 (Anthropic, February update)  penalty "tanh". "sqrt" is the power 1/2 that p_anneal
      passes through, held from the start.

`l1` is on the scale of a squared error summed over D. We differ in the slope of the square root, which is
bounded at zero (ops/penalties.py), and in that `tanh` may be had in either form of the rest.
"""

import jax
from jax import lax

from dictlearn.dictionaries import _linear
from dictlearn.ops import penalties
from dictlearn.types import Codes, Dictionary, Out, Scalar

PENALTIES = ("l1", "sqrt", "tanh")


class ReLU(Dictionary):
    """d_in: width of the input. n_latents: F. l1: the penalty's coefficient, may be traced. penalty:
    "l1", "sqrt" or "tanh". tanh_scale: its c. weight_by_norm: penalise f_i |d_i|, with gradient to the
    atom, in place of f_i. subtract_b_dec: from the input of an autoencoder. d_out: width of the target
    of a transcoder, which subtracts nothing; None makes an autoencoder."""

    d_in: int
    n_latents: int
    l1: Scalar
    penalty: str = "l1"
    tanh_scale: Scalar = 4.0
    weight_by_norm: bool = False
    subtract_b_dec: bool = True
    d_out: int | None = None

    def setup(self):
        if self.penalty not in PENALTIES:
            raise ValueError(f"penalty={self.penalty!r} must be one of {', '.join(PENALTIES)}.")
        _linear.declare(self)

    def encode(self, x_BD) -> Codes:
        return Codes(jax.nn.relu(_linear.pre(self, x_BD)))

    def decode(self, codes: Codes):
        return _linear.decode(self, codes)

    def __call__(self, x_BD, dead_F) -> Out:
        pre_BF = _linear.pre(self, x_BD)
        codes = Codes(jax.nn.relu(pre_BF))
        penalty_B = self.l1 * self._penalty(codes.val)
        return Out(self.decode(codes), codes, lax.stop_gradient(pre_BF), penalty_B)

    def _penalty(self, f_BF):
        if self.weight_by_norm:
            f_BF = f_BF * penalties.row_norms(self.W_dec_FD)
        if self.penalty == "sqrt":
            return penalties.power(f_BF, 0.5)
        if self.penalty == "tanh":
            return penalties.tanh(f_BF, self.tanh_scale)
        return penalties.l1(f_BF)
