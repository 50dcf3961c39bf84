"""Gated: which latents are active is decided apart from how large they are.

    u = (x - b_dec) W_enc      pi = u + b_enc      v = u exp(r_mag) + b_mag
    f = [pi > 0] ReLU(v)       yhat = f W_dec + b_dec
    penalty = l1 * sum_i ReLU(pi_i)      auxiliary reconstruction = ReLU(pi) sg(W_dec) + sg(b_dec)

Source: Rajamanoharan et al. 2024 (arXiv:2404.16014), section 3.2; the authors' W_gate is W_enc_FD, their
b_gate is b_enc_F. The gate learns from the auxiliary reconstruction and the penalty, and shares W_enc with
the magnitudes; nothing passes through [pi > 0]. Unit atoms are held by the rule. At inference it is a
JumpReLU with thresholds b_mag - exp(r_mag) b_gate (appendix; `as_jumprelu`). `l1` is on the scale of a squared
error summed over D, and larger than a ReLU's for the same L0: the auxiliary loss pulls pi up.
The paper's rule is Adam with b1 0 and lr 3e-4, UNSURE, being from memory: both are the rule's.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from dictlearn.dictionaries import _topk
from dictlearn.dictionaries._activations import Activation, Many, Values
from dictlearn.ops import penalties
from dictlearn.ops.sparse.support import Entries
from dictlearn.types import Codes, Scalar


class Gated(Activation):
    """l1: the coefficient of the gate's L1, may be traced."""

    l1: Scalar

    def setup(self):
        self.r_mag_F = self.param("r_mag_F", nn.initializers.zeros, (self.n_latents,))
        self.b_mag_F = self.param("b_mag_F", nn.initializers.zeros, (self.n_latents,))

    def choose(self, pre_BF, weight, dead_F) -> Many:
        more = self.gate_bias(), self.r_mag_F, self.b_mag_F
        codes = Codes(_sizes(Entries(pre_BF, pre_BF > 0), *lax.stop_gradient(more)))
        return Many(codes, pre_BF, pre_BF, _topk.crowd_of_any(self.n_latents), more)

    def values(self, entries, weight, b_enc_F, r_mag_F, b_mag_F) -> Values:
        open_ = jnp.where(entries.on, entries.z, 0)
        val = _sizes(entries, b_enc_F, r_mag_F, b_mag_F)
        return Values(val, self.l1 * penalties.l1(open_), open_)

    def infer(self, pre_BF, weight) -> Codes:
        gate = Entries(pre_BF, pre_BF > 0)
        return Codes(_sizes(gate, self.gate_bias(), self.r_mag_F, self.b_mag_F))

    def gate_bias(self) -> jax.Array:
        """b_enc of its structure, whose scope it shares."""
        return self.get_variable("params", "b_enc_F")


def _sizes(gate: Entries, b_enc_F, r_mag_F, b_mag_F):
    """f, from the gate's pre-activations."""
    u = gate.z - gate.of(b_enc_F)
    return jnp.where(gate.on, jax.nn.relu(u * jnp.exp(gate.of(r_mag_F)) + gate.of(b_mag_F)), 0)
