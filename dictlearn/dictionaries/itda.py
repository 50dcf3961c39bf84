"""ITDA: the atoms are activations of the data, each with its token's key; codes by matching pursuit.

    r = x      k times:  j = argmax_j |<r, d_j>|     v = <r, d_j>     f_j += v     r <- r - v d_j
    xhat = f D

Values may be negative; an atom that is selected again adds to its first value, so L0 <= k. There is no
encoder and no bias, and nothing has a gradient: `learners/itda.py` chooses the atoms. `k` may differ at
inference (`clone(k=...)`).

Source: Leask et al. 2025, "Inference-Time Decomposition of Activations" (ITDA), section 3.2 and Algorithm
2. The text and Algorithm 2 say matching pursuit, Algorithm 1 says orthogonal matching pursuit; we take
the former.

Differs: the number of rows is fixed; the rows from `n_atoms` on are zero and are never selected.
"""

from typing import ClassVar

from flax import linen as nn
from jax import lax
from jax import numpy as jnp
from jaxtyping import Array, Bool, Float

from dictlearn.dictionaries import _atoms, _linear, _topk
from dictlearn.ops.pursuit import matching
from dictlearn.types import Codes, Dictionary, Out, Scalar, Tokens


class ITDA(Dictionary):
    """The dictionary, with these hyperparameters.

    Args:
        d_in: the width of the input.
        n_latents: F, the largest number of atoms.
        k: the number of steps of the pursuit, which may be traced if `k_max`, its upper bound, is given.
        d_out: must be None.

    `stats`: n_atoms, how many rows of W_dec_FD are atoms; sequence_F and position_F, the token of each
    atom, int32.
    """

    transcodes: ClassVar[bool] = False
    learner: ClassVar[str] = "itda"

    d_in: int
    n_latents: int
    k: Scalar
    k_max: int | None = None
    d_out: int | None = None

    @classmethod
    def recommended(cls, *, d_in: int, n_latents: int, steps: int, l0: float) -> dict:
        return {"learner": {"size": n_latents}}

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

    def encode(self, x_BD: Tokens) -> Codes:
        return self._codes(x_BD)[0]

    def decode(self, codes: Codes) -> Float[Array, "B D"]:
        return _linear.from_atoms(codes, lax.stop_gradient(self.W_dec_FD))

    def __call__(self, x_BD: Tokens, dead_F: Bool[Array, " F"]) -> Out:
        codes, pre_BF = self._codes(x_BD)
        return Out(self.decode(codes), codes, pre_BF)

    def _codes(self, x_BD):
        k_max = _topk.bound(self.k, self.k_max, self.n_latents)
        val_BK, idx_BK, pre_BF = matching.pursue(
            x_BD, self.W_dec_FD, k_max, k=self.k, absolute=True
        )
        val_BK = matching.merge(val_BK, idx_BK)
        return Codes(val_BK.astype(x_BD.dtype), idx_BK), pre_BF
