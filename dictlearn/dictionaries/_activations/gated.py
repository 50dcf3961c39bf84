"""Gated SAE: separate paths decide which latents are active and how large they are.

    u = (x - b_dec) W_enc      pi = u + b_enc      v = u exp(r_mag) + b_mag
    f = [pi > 0] ReLU(v)       yhat = f W_dec + b_dec

    penalty "l1"         sparsity * sum_i ReLU(pi_i); auxiliary reconstruction ReLU(pi) sg(W_dec) + sg(b_dec)
            "target_l0"  sparsity * (L0 / target_l0 - 1)^2,   L0 the mean of sum_i [pi_i > 0] over the batch

The authors' W_gate is W_enc_FD and their b_gate is b_enc_F. The magnitude path shares W_enc. The rule holds the
atoms at unit norm. At inference the dictionary is a JumpReLU with thresholds b_mag - exp(r_mag) b_gate.

With "l1", as published, the gate learns from the auxiliary reconstruction and from the penalty; no gradient
passes through [pi > 0]. `sparsity` is on the scale of a squared error summed over D. It must be larger than the
coefficient of a ReLU for the same L0, because the auxiliary loss pulls pi up. With "target_l0" there is no
auxiliary reconstruction: the gate is JumpReLU's step, whose straight-through gradients reach b_gate alone, from
the reconstruction and from the penalty.

Source: Rajamanoharan et al. 2024 (arXiv:2404.16014), section 3.2 and the appendix on inference; for the
gradients of "target_l0", ops/jumprelu.py.

UNSURE, from memory: the paper trains with Adam at b1 0 and lr 3e-4; both are settings of the rule.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Bool, Float

from dictlearn.dictionaries import _topk
from dictlearn.dictionaries._activations import (
    Activation,
    Many,
    Values,
    Weight,
    density,
    one_of,
    positive,
)
from dictlearn.ops import jumprelu, penalties
from dictlearn.ops.sparse.support import Entries
from dictlearn.types import Codes, Scalar

PENALTIES, KERNEL = ("l1", "target_l0"), "rectangle"


class Gated(Activation):
    """The activation, with these hyperparameters.

    Args:
        sparsity: the coefficient of the penalty, which may be traced.
        penalty: "l1" or "target_l0".
        target_l0: the wanted number of active latents of a token, for "target_l0".
        bandwidth: the width of the window around pi = 0, for "target_l0".
    """

    sparsity: Scalar
    penalty: str = "l1"
    target_l0: Scalar = 32.0
    bandwidth: Scalar = 1e-3

    @classmethod
    def recommended(cls, *, d_in: int, n_latents: int, steps: int, l0: float) -> dict:
        """Under "l1" latents share features instead of dying, and fewer features are found. AuxK would raise
        the bias of dead latents, which here opens their gates on every token."""
        own = {
            "aux_k": 0,
            "penalty": "target_l0",
            "target_l0": l0,
            "sparsity": 10.0,
            "bandwidth": (d_in / l0) ** 0.5 / 4,
            "density_start": density(n_latents, l0),
        }
        return {"dictionary": own}

    def setup(self):
        one_of(PENALTIES, penalty=self.penalty)
        positive(target_l0=self.target_l0, bandwidth=self.bandwidth)
        self.r_mag_F = self.param("r_mag_F", nn.initializers.zeros, (self.n_latents,))
        self.b_mag_F = self.param("b_mag_F", nn.initializers.zeros, (self.n_latents,))

    def choose(
        self, pre_BF: Float[Array, "B F"], weight: Weight, dead_F: Bool[Array, " F"]
    ) -> Many:
        more = self.gate_bias(), self.r_mag_F, self.b_mag_F
        codes = Codes(_sizes(Entries(pre_BF, pre_BF > 0), *lax.stop_gradient(more)))
        window, penalty_B = self.penalty == "target_l0", None
        if window:
            l0 = jnp.mean(jumprelu.l0(pre_BF, *self._gate(more[0])))
            cost = self.sparsity * (l0 / self.target_l0 - 1) ** 2
            penalty_B = jnp.broadcast_to(cost, len(pre_BF))
        k_sparse = _topk.k_sparse_unbounded(self.n_latents)
        return Many(codes, pre_BF, pre_BF, k_sparse, more, penalty_B, window=window)

    def values(
        self,
        entries: Entries,
        weight: Weight,
        b_enc_F: Float[Array, " F"],
        r_mag_F: Float[Array, " F"],
        b_mag_F: Float[Array, " F"],
    ) -> Values:
        val = _sizes(entries, b_enc_F, r_mag_F, b_mag_F)
        if self.penalty == "target_l0":
            return Values(val * self._open(entries.z, entries.of(b_enc_F)))
        open_ = jnp.where(entries.on, entries.z, 0)
        return Values(val, self.sparsity * penalties.l1(open_), open_)

    def infer(self, pre_BF: Float[Array, "B F"], weight: Weight) -> Codes:
        gate = Entries(pre_BF, pre_BF > 0)
        return Codes(_sizes(gate, self.gate_bias(), self.r_mag_F, self.b_mag_F))

    def lifted(self, params: dict, lift_F: Float[Array, " F"]) -> dict:
        """Towards an L0, latents start as JumpReLU's do: at half of the window, where the gate opens."""
        lifted = super().lifted(params, lift_F)
        if self.penalty == "target_l0":
            lifted["b_mag_F"] = lifted["b_enc_F"] + self.bandwidth / 2
        return lifted

    def gate_bias(self) -> jax.Array:
        """b_enc of the structure, whose scope the activation shares."""
        return self.get_variable("params", "b_enc_F")

    def _open(self, pre: jax.Array, b_enc: jax.Array) -> jax.Array:
        """[pi > 0]."""
        return jumprelu.step(pre, *self._gate(b_enc))

    def _gate(self, b_enc: jax.Array) -> tuple:
        """The threshold of pi, which is 0, and its window. A higher bias is a lower threshold, and only the
        bias has a gradient."""
        return lax.stop_gradient(b_enc) - b_enc, self.bandwidth, KERNEL


def _sizes(gate: Entries, b_enc_F, r_mag_F, b_mag_F):
    """f, computed from the gate's pre-activations."""
    u = gate.z - gate.of(b_enc_F)
    return jnp.where(gate.on, jax.nn.relu(u * jnp.exp(gate.of(r_mag_F)) + gate.of(b_mag_F)), 0)
