"""ReLU with a penalty on the size of the latents.

    f = ReLU((x - b_dec) W_enc + b_enc)     yhat = f W_dec + b_dec
    penalty = sparsity * sum_i phi(f_i w_i),      phi(f) = f | sqrt(f) | tanh(c f),    w_i = 1 | |d_i|

`sparsity` is on the scale of a squared error summed over D.

Source, with the settings for each:

  Bricken et al. 2023 (Towards Monosemanticity)   the defaults: penalty "l1", w = 1, and the rule holds
      the atoms at unit norm (`unit_norm`); otherwise a growing W_dec would avoid the penalty.
  Conerly et al. 2024 (Anthropic, April update)   `norm_weighted` true, `subtract_b_dec` false; rule
      `unit_norm` false and lr 5e-5; learner `atom_norm` 0.1, `b_dec_start` "zeros" and
      `penalty_warmup_steps` a twentieth of the run; normalisation `mean_norm_sqrt_d`, sparsity about 5.
  Jermyn et al. 2024 (Anthropic, February update)  penalty "tanh". "sqrt" is the power 1/2 that p_anneal
      passes through, held from the start.

Differs: the slope of the square root is bounded at zero (ops/penalties.py), and `tanh` may be combined
with either form of the rest.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dictlearn.dictionaries import _topk
from dictlearn.dictionaries._activations import Activation, Many, Values, Weight, one_of, searched
from dictlearn.ops import penalties
from dictlearn.ops.sparse.support import Entries
from dictlearn.types import Codes, Scalar

PENALTIES = ("l1", "sqrt", "tanh")


class ReLU(Activation):
    """The activation, with these hyperparameters.

    Args:
        sparsity: the coefficient of the penalty, which may be traced.
        penalty: "l1", "sqrt" or "tanh".
        tanh_scale: c.
        norm_weighted: whether f_i |d_i| is penalised, with gradient to the atom, instead of f_i.
    """

    sparsity: Scalar
    penalty: str = "l1"
    tanh_scale: Scalar = 4.0
    norm_weighted: bool = False

    @classmethod
    def recommended(cls, *, d_in: int, n_latents: int, steps: int, l0: float) -> dict:
        return searched(d_in, n_latents, l0)

    def setup(self):
        one_of(PENALTIES, penalty=self.penalty)

    @property
    def weighted(self) -> bool:
        return self.norm_weighted

    def choose(
        self, pre_BF: Float[Array, "B F"], weight: Weight, dead_F: Bool[Array, " F"]
    ) -> Many:
        f_BF = jax.nn.relu(pre_BF)
        return Many(Codes(f_BF), f_BF, pre_BF, _topk.k_sparse_unbounded(self.n_latents))

    def values(self, entries: Entries, weight: Weight) -> Values:
        f = jnp.where(entries.on, entries.z, 0)
        return Values(
            f, self.sparsity * self._size(f if weight is None else f * entries.of(weight))
        )

    def _size(self, f_BF):
        if self.penalty == "sqrt":
            return penalties.power(f_BF, 0.5)
        if self.penalty == "tanh":
            return penalties.tanh(f_BF, self.tanh_scale)
        return penalties.l1(f_BF)
