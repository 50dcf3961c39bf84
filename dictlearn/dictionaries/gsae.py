"""Gradient SAE: TopK whose choice also sees what the language model's loss does along each atom.

    z = (x - b_dec) W_enc + b_enc      a = W_dec g,   g = dL/dx
    f = ReLU(z) [q among the k largest of the token],   q = ReLU(z) (1 + beta |a|)       yhat = f W_dec + b_dec

Source: Olmo et al. 2024 (arXiv:2411.10397), section 3, read at second hand. beta = 0 is TopK; beta -> inf ranks
by the first-order effect |f_i dL/df_i| of leaving a latent out. Loss and AuxK are TopK's; no gradient reaches
the choice. Without g (None) a token's latents are chosen as TopK's are: `encode(x)` is the dictionary where the
loss is not known, `encode(x, g)` with it, and a batch that carries no g trains a TopK.
UNSURE, and so ours: L is summed over the sequence, g has a root mean square of 1 over tokens and dimensions
(streams scale it), so that beta has no unit and |a| is near 1 for unit atoms; dead latents for AuxK rank by z.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from dictlearn.dictionaries import _allocation, _atoms, _linear
from dictlearn.ops.encode import pre_activations
from dictlearn.ops.sparse import coding
from dictlearn.ops.topk.by_score import top_by
from dictlearn.types import Codes, Dictionary, Out, Scalar


class GSAE(Dictionary):
    """d_in: width of the input. n_latents: F. k: active latents a token; may be traced if `k_max`, its bound,
    is given. beta: weight of the gradient in the choice, may be traced. aux_k: dead latents that AuxK uses a
    token, 0 for none. d_out: must be None."""

    transcodes: ClassVar[bool] = False
    reads_gradient: ClassVar[bool] = True
    """`encode` and `__call__` take g_BD too, of the batches' `gradients`."""

    d_in: int
    n_latents: int
    k: Scalar
    k_max: int | None = None
    beta: Scalar = 1.0
    aux_k: int = 0
    d_out: int | None = None

    def setup(self):
        _atoms.refuse_transcoder(self)
        self._most = _allocation.most(self)
        if self.aux_k > self.n_latents:
            raise ValueError(f"{self.aux_k=} exceeds {self.n_latents=}.")
        if isinstance(self.beta, int | float) and not self.beta >= 0:
            raise ValueError(f"{self.beta=} must be 0 or more.")
        _linear.declare(self)

    def encode(self, x_BD, g_BD=None) -> Codes:
        read = _linear.encoder(self, x_BD)
        val_BK, idx_BK, _ = self._ranked(read, g_BD)
        return self._valued(val_BK, idx_BK, read)

    def decode(self, codes: Codes):
        return _linear.decode(self, codes)

    def __call__(self, x_BD, dead_F, g_BD=None) -> Out:
        read = _linear.encoder(self, x_BD)
        used = _allocation.used(self.k, self._most)
        val_BK, idx_BK, pre_BF = self._ranked(read, g_BD)
        kept = Codes(jax.nn.relu(val_BK) * (jnp.arange(self._most) < self.k), idx_BK)
        residual_BD, read, atoms_FD = _linear.beside(self, read, pre_BF, kept, dead_F)
        codes = self._valued(val_BK, idx_BK, read, used)
        y_BD = _linear.from_atoms(codes, atoms_FD, used) + self.b_dec_D
        return Out(y_BD, codes, pre_BF, residual_BD=residual_BD)

    def _ranked(self, read, g_BD):
        """The pre-activations that rank first, their latents, and all pre-activations, without gradient."""
        pre_BF = pre_activations(*read)
        score_BF = jax.nn.relu(pre_BF)
        if g_BD is not None:
            along_BF = jnp.abs(lax.stop_gradient(g_BD @ self.W_dec_FD.T))
            score_BF = score_BF * (1 + self.beta * along_BF)
        return *top_by(score_BF, pre_BF, self._most), pre_BF

    def _valued(self, val_BK, idx_BK, read, used=None) -> Codes:
        val_BK = coding.select(val_BK, idx_BK, *read, used)
        return Codes(jax.nn.relu(val_BK) * (jnp.arange(self._most) < self.k), idx_BK)
