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
import jax.numpy as jnp

from dictlearn.dictionaries import _topk
from dictlearn.dictionaries._activations import Activation, Many, Values
from dictlearn.ops import penalties
from dictlearn.types import Codes, Scalar

PENALTIES = ("l1", "sqrt", "tanh")


class ReLU(Activation):
    """l1: the penalty's coefficient, may be traced. penalty: "l1", "sqrt" or "tanh". tanh_scale: its c.
    norm_weighted: penalise f_i |d_i|, with gradient to the atom, in place of f_i."""

    l1: Scalar
    penalty: str = "l1"
    tanh_scale: Scalar = 4.0
    norm_weighted: bool = False

    def setup(self):
        if self.penalty not in PENALTIES:
            raise ValueError(f"penalty={self.penalty!r} must be one of {', '.join(PENALTIES)}.")

    @property
    def weighted(self) -> bool:
        return self.norm_weighted

    def choose(self, pre_BF, weight, dead_F) -> Many:
        f_BF = jax.nn.relu(pre_BF)
        return Many(Codes(f_BF), f_BF, pre_BF, _topk.crowd_of_any(self.n_latents))

    def values(self, entries, weight) -> Values:
        f = jnp.where(entries.on, entries.z, 0)
        return Values(f, self.l1 * self._size(f if weight is None else f * entries.of(weight)))

    def _size(self, f_BF):
        if self.penalty == "sqrt":
            return penalties.power(f_BF, 0.5)
        if self.penalty == "tanh":
            return penalties.tanh(f_BF, self.tanh_scale)
        return penalties.l1(f_BF)
