"""ITDA's dictionary: atoms that are activations of the data, each with its key; codes by matching pursuit.

    r = x      k times:  j = argmax_j |<r, d_j>|     v = <r, d_j>     f_j += v     r <- r - v d_j
    xhat = f D

Source: Leask et al. 2025, "Inference-Time Decomposition of Activations" (ITDA), section 3.2 and Algorithm 2;
the text and Algorithm 2 say matching pursuit, Algorithm 1 orthogonal: we take the former. Values may be
negative; an atom met again adds to its first value, so that L0 <= k. There is no encoder and no bias, and
nothing has a gradient: `learners/itda.py` chooses the atoms. Differs: the number of rows is fixed, and those
from `n_atoms` on are zero, which never win. `k` may differ at inference (`clone(k=...)`).
"""

from typing import ClassVar

from flax import linen as nn
from jax import lax
from jax import numpy as jnp

from dictlearn.dictionaries import _atoms, _linear, _topk
from dictlearn.ops.pursuit import matching
from dictlearn.types import Codes, Dictionary, Out, Scalar


class ITDA(Dictionary):
    """d_in: width of the input. n_latents: F, the most atoms there can be. k: steps of the pursuit; may be
    traced if `k_max`, its bound, is given. d_out: must be None.

    `stats`: n_atoms, how many rows of W_dec_FD are atoms; sequence_F and position_F, the token that each
    was, int32."""

    transcodes: ClassVar[bool] = False
    learner: ClassVar[str] = "itda"

    d_in: int
    n_latents: int
    k: Scalar
    k_max: int | None = None
    d_out: int | None = None

    def setup(self):
        _atoms.refuse_transcoder(self)
        zeros, n = nn.initializers.zeros, self.n_latents
        self.W_dec_FD = self.param("W_dec_FD", zeros, (n, self.d_in))
        self.variable("stats", "n_atoms", jnp.zeros, (), jnp.int32)
        self.variable("stats", "sequence_F", jnp.zeros, (n,), jnp.int32)
        self.variable("stats", "position_F", jnp.zeros, (n,), jnp.int32)

    @property
    def subtract_b_dec(self) -> bool:
        """It has no b_dec."""
        return False

    def encode(self, x_BD) -> Codes:
        return self._codes(x_BD)[0]

    def decode(self, codes: Codes):
        return _linear.from_atoms(codes, lax.stop_gradient(self.W_dec_FD))

    def __call__(self, x_BD, dead_F) -> Out:
        codes, pre_BF = self._codes(x_BD)
        return Out(self.decode(codes), codes, pre_BF)

    def _codes(self, x_BD):
        most = _topk.most(self.k, self.k_max, self.n_latents)
        val_BK, idx_BK, pre_BF = matching.pursue(
            x_BD, self.W_dec_FD, most, kept=self.k, absolute=True
        )
        val_BK = matching.merge(val_BK, idx_BK)
        return Codes(val_BK.astype(x_BD.dtype), idx_BK), pre_BF
