"""Gated SAE: separate paths decide which latents are active and how large they are.

    u = (x - b_dec) W_enc      pi = u + b_enc      v = u exp(r_mag) + b_mag
    f = [pi > 0] ReLU(v)       yhat = f W_dec + b_dec
    penalty = sparsity * sum_i ReLU(pi_i)      auxiliary reconstruction = ReLU(pi) sg(W_dec) + sg(b_dec)

The authors' W_gate is W_enc_FD and their b_gate is b_enc_F. The gate learns from the auxiliary
reconstruction and from the penalty, and it shares W_enc with the magnitude path; no gradient passes
through [pi > 0]. The rule holds the atoms at unit norm. At inference the dictionary is a JumpReLU with
thresholds b_mag - exp(r_mag) b_gate. `sparsity` is on the scale of a squared error summed over D. It must be
larger than the coefficient of a ReLU for the same L0, because the auxiliary loss pulls pi up.

Source: Rajamanoharan et al. 2024 (arXiv:2404.16014), section 3.2 and the appendix on inference.

UNSURE, from memory: the paper trains with Adam at b1 0 and lr 3e-4; both are settings of the rule.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Bool, Float

from dictlearn.dictionaries import _topk
from dictlearn.dictionaries._activations import Activation, Many, Values, Weight, searched
from dictlearn.ops import penalties
from dictlearn.ops.sparse.support import Entries
from dictlearn.types import Codes, Scalar


class Gated(Activation):
    """The activation, with these hyperparameters.

    Args:
        sparsity: the coefficient of the L1 penalty on the gate, which may be traced.
    """

    sparsity: Scalar

    @classmethod
    def recommended(cls, *, d_in: int, n_latents: int, steps: int, l0: float) -> dict:
        """At half of this rate latents keep sharing features instead of dying: fewer features are found."""
        return {**searched(d_in, n_latents, l0), "rule": {"lr": 2e-3}}

    def setup(self):
        self.r_mag_F = self.param("r_mag_F", nn.initializers.zeros, (self.n_latents,))
        self.b_mag_F = self.param("b_mag_F", nn.initializers.zeros, (self.n_latents,))

    def choose(
        self, pre_BF: Float[Array, "B F"], weight: Weight, dead_F: Bool[Array, " F"]
    ) -> Many:
        more = self.gate_bias(), self.r_mag_F, self.b_mag_F
        codes = Codes(_sizes(Entries(pre_BF, pre_BF > 0), *lax.stop_gradient(more)))
        return Many(codes, pre_BF, pre_BF, _topk.k_sparse_unbounded(self.n_latents), more)

    def values(
        self,
        entries: Entries,
        weight: Weight,
        b_enc_F: Float[Array, " F"],
        r_mag_F: Float[Array, " F"],
        b_mag_F: Float[Array, " F"],
    ) -> Values:
        open_ = jnp.where(entries.on, entries.z, 0)
        val = _sizes(entries, b_enc_F, r_mag_F, b_mag_F)
        return Values(val, self.sparsity * penalties.l1(open_), open_)

    def infer(self, pre_BF: Float[Array, "B F"], weight: Weight) -> Codes:
        gate = Entries(pre_BF, pre_BF > 0)
        return Codes(_sizes(gate, self.gate_bias(), self.r_mag_F, self.b_mag_F))

    def gate_bias(self) -> jax.Array:
        """b_enc of the structure, whose scope the activation shares."""
        return self.get_variable("params", "b_enc_F")


def _sizes(gate: Entries, b_enc_F, r_mag_F, b_mag_F):
    """f, computed from the gate's pre-activations."""
    u = gate.z - gate.of(b_enc_F)
    return jnp.where(gate.on, jax.nn.relu(u * jnp.exp(gate.of(r_mag_F)) + gate.of(b_mag_F)), 0)
