"""MP-SAE: the encoder is k steps of matching pursuit in the decoder's own atoms.

    r = x - b_dec      k times:  j = argmax_j <r, d_j>     v = <r, d_j>     f_j += v     r <- r - v d_j
    yhat = f D + b_dec        d_j = W_dec_j / |W_dec_j|

The gradient flows through every residual; the indices have none. The maximum is signed, so a value is
negative where no atom has a positive product. An atom that is selected again adds to its first value. `k`
may differ at inference (`clone(k=...)`): more steps give a smaller error.

Source: Costa et al. 2025 (arXiv:2506.03093). Dropout and the pull on dead atoms are from the code of
`overcomplete`.

Differs: `overcomplete` pulls only when more than 10 atoms are dead in a batch, ours whenever the learner
counts a dead latent, and only the atoms are pulled.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from dictlearn.dictionaries import _atoms, _linear, _topk
from dictlearn.dictionaries._stats import Step, share
from dictlearn.ops.pursuit import matching
from dictlearn.types import Codes, Dictionary, Out, Scalar, Tokens


class MP(Dictionary):
    """The dictionary, with these hyperparameters.

    Args:
        d_in: the width of the input.
        n_latents: F.
        k: the number of steps of the pursuit, which bounds the active latents of a token; it may be
            traced if `k_max`, its upper bound, is given.
        dropout: the share of the atoms that a training forward pass hides, drawn from `seed` and the
            count of passes.
        revive: the coefficient of the pull of dead atoms towards the residual (overcomplete: 1e-2).
        d_out: must be None.
    """

    transcodes: ClassVar[bool] = False

    d_in: int
    n_latents: int
    k: Scalar
    k_max: int | None = None
    dropout: float = 0.0
    revive: Scalar = 0.0
    seed: int = 0
    d_out: int | None = None

    def setup(self):
        _atoms.declare(self)
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout={self.dropout} must lie in [0, 1).")
        if self.dropout:
            self.steps = Step()
            share(self, self.steps)

    def encode(self, x_BD: Tokens) -> Codes:
        return self._codes(x_BD)[0]

    def decode(self, codes: Codes) -> Float[Array, "B D"]:
        return _linear.from_atoms(codes, self._atoms()) + self.b_dec_D

    def __call__(self, x_BD: Tokens, dead_F: Bool[Array, " F"]) -> Out:
        mask_F = None
        if self.dropout:
            key = self.steps.next_key(self.seed)
            mask_F = jax.random.bernoulli(key, 1 - self.dropout, dead_F.shape)
        codes, pre_BF = self._codes(x_BD, mask_F)
        y_BD = self.decode(codes)
        left_BD = lax.stop_gradient(x_BD - y_BD)
        dead_D = (dead_F @ self._atoms()) / jnp.maximum(dead_F.sum(), 1)
        return Out(y_BD, codes, pre_BF, penalty_B=-self.revive * (left_BD @ dead_D))

    def _atoms(self):
        norm_F1 = jnp.linalg.norm(self.W_dec_FD, axis=1, keepdims=True)
        return self.W_dec_FD / jnp.maximum(norm_F1, 1e-12)

    def _codes(self, x_BD, mask_F=None):
        x_BD, atoms_FD = _linear.centre(self, x_BD), self._atoms()
        k_max = _topk.bound(self.k, self.k_max, self.n_latents)
        _, idx_BK, pre_BF = matching.pursue(x_BD, atoms_FD, k_max, k=self.k, mask_F=mask_F)
        val_BK = matching.follow(x_BD, idx_BK, atoms_FD) * (jnp.arange(k_max) < self.k)
        return Codes(matching.merge(val_BK, idx_BK), idx_BK), pre_BF.astype(x_BD.dtype)
