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

from dictlearn.dictionaries import _linear
from dictlearn.ops import penalties
from dictlearn.ops.encode import pre_activations
from dictlearn.ops.sparse import support
from dictlearn.types import Codes, Dictionary, Out, Scalar


class Gated(Dictionary):
    """d_in: width of the input. n_latents: F. l1: the coefficient of the gate's L1, may be traced.
    d_out: width of the target of a transcoder; None makes an autoencoder, which subtracts b_dec."""

    d_in: int
    n_latents: int
    l1: Scalar
    d_out: int | None = None

    def setup(self):
        _linear.declare(self)
        self.r_mag_F = self.param("r_mag_F", nn.initializers.zeros, (self.n_latents,))
        self.b_mag_F = self.param("b_mag_F", nn.initializers.zeros, (self.n_latents,))

    def encode(self, x_BD) -> Codes:
        gate_BF = _linear.pre(self, x_BD)
        gate = support.Entries(gate_BF, gate_BF > 0)
        return Codes(_sizes(gate, self.b_enc_F, self.r_mag_F, self.b_mag_F))

    def decode(self, codes: Codes):
        return _linear.decode(self, codes)

    def __call__(self, x_BD, dead_F) -> Out:
        read = _linear.encoder(self, x_BD)
        gate_BF = pre_activations(*read)
        more = self.b_enc_F, self.r_mag_F, self.b_mag_F, self.W_dec_FD
        codes = Codes(_sizes(support.Entries(gate_BF, gate_BF > 0), *lax.stop_gradient(more[:3])))
        found = support.over(_body, gate_BF, gate_BF, _linear.crowd(self), *read, *more)
        y_BD, other_BD, open_B = found
        others = ((1.0, other_BD + lax.stop_gradient(self.b_dec_D)),)
        return Out(y_BD + self.b_dec_D, codes, gate_BF, self.l1 * open_B, others=others)

    def as_jumprelu(self) -> dict:
        """The params of the `jumprelu` with the same codes and reconstructions."""
        scale_F = jnp.exp(self.r_mag_F)
        threshold_F = jnp.maximum(self.b_mag_F - scale_F * self.b_enc_F, 0)
        return {
            "W_enc_FD": scale_F[:, None] * self.W_enc_FD,
            "b_enc_F": self.b_mag_F,
            "log_threshold_F": jnp.log(threshold_F),
            "W_dec_FD": self.W_dec_FD,
            "b_dec_D": self.b_dec_D,
        }


def _sizes(gate: support.Entries, b_enc_F, r_mag_F, b_mag_F):
    """f, from the gate's pre-activations."""
    u = gate.z - gate.of(b_enc_F)
    return jnp.where(gate.on, jax.nn.relu(u * jnp.exp(gate.of(r_mag_F)) + gate.of(b_mag_F)), 0)


def _body(gate: support.Entries, b_enc_F, r_mag_F, b_mag_F, W_FD):
    """The two reconstructions without their bias, and the sum of the open gates."""
    open_ = jnp.where(gate.on, gate.z, 0)
    y_BD = gate.decode(_sizes(gate, b_enc_F, r_mag_F, b_mag_F), W_FD)
    return y_BD, gate.decode(open_, lax.stop_gradient(W_FD)), penalties.l1(open_)
