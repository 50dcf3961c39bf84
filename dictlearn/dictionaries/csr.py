"""CSR: TopK at two sparsities, and a contrastive loss between the codes of a batch.

    z = (x - b_dec) W_enc + b_enc      f = ReLU(TopK_k(z))      f' = ReLU(TopK_{multiple k}(z))
    loss = L(f) + multi_weight L(f') + AuxK + gamma contrastive(f)          (ops/contrastive.py)

Source: Wen et al. 2025 (arXiv:2503.01776); Multi-TopK from Gao et al. 2024. As in the code
the codes are scaled to unit length before the contrastive loss, with temperature 0.2, and its coefficient
is 0.1 (text and images; the paper: 1, and no scaling). Their settings: F = 4 d_in, aux_k = 512, mean
squared error.
Differs: the decoder starts as the encoder's transpose and is then its own, where their code ties them; a
token's two views are one forward, as theirs are equal. The contrastive loss holds codes as `[B, F]`.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp

from dictlearn.dictionaries import _allocation, _linear
from dictlearn.ops.contrastive import contrastive
from dictlearn.ops.encode import pre_activations
from dictlearn.ops.sparse import coding
from dictlearn.ops.topk.exact import top_k
from dictlearn.types import Codes, Dictionary, Out, Scalar


class CSR(Dictionary):
    """d_in: width of the input. n_latents: F. k: active latents a token; may be traced if `k_max`, its
    bound, is given. multiple, multi_weight: of the second reconstruction. gamma: of the contrastive loss;
    temperature: its t; unit_codes: scale codes to unit length in it. aux_k: dead latents that AuxK uses a
    token. d_out: width of the target of a transcoder; None makes an autoencoder."""

    revives: ClassVar[tuple[str, ...]] = ("multi_weight",)
    """Fields that bring dead latents back besides aux_k: the second reconstruction uses more of them."""

    d_in: int
    n_latents: int
    k: Scalar
    k_max: int | None = None
    aux_k: int = 0
    multiple: int = 4
    multi_weight: Scalar = 1 / 8
    gamma: Scalar = 0.1
    temperature: Scalar = 0.2
    unit_codes: bool = True
    d_out: int | None = None

    def setup(self):
        self._most = _allocation.most(self)
        if self.multiple < 1 or self.aux_k > self.n_latents:
            raise ValueError(
                f"multiple={self.multiple} must be at least 1, and aux_k={self.aux_k} at most "
                f"n_latents={self.n_latents}."
            )
        if isinstance(self.temperature, int | float) and self.temperature <= 0:
            raise ValueError(f"temperature={self.temperature} must be positive.")
        _linear.declare(self)

    def encode(self, x_BD) -> Codes:
        val_BK, idx_BK, _ = self._entries(_linear.encoder(self, x_BD), self._most, self.k)
        return Codes(val_BK, idx_BK)

    def decode(self, codes: Codes):
        return _linear.decode(self, codes)

    def __call__(self, x_BD, dead_F) -> Out:
        read = _linear.encoder(self, x_BD)
        wide = min(self.multiple * self._most, self.n_latents)
        val_BK, idx_BK, pre_BF = self._entries(read, wide, self.multiple * self.k)
        kept = jnp.arange(self._most) < self.k
        codes = Codes(val_BK[:, : self._most] * kept, idx_BK[:, : self._most])
        residual_BD = _linear.residual(self, read, pre_BF, codes, dead_F)
        rows_B1 = jnp.arange(len(x_BD))[:, None]
        f_BF = jnp.zeros_like(pre_BF).at[rows_B1, idx_BK[:, : self._most]].add(codes.val)
        penalty_B = self.gamma * contrastive(f_BF, self.temperature, self.unit_codes)
        others = ((self.multi_weight, self.decode(Codes(val_BK, idx_BK))),)
        return Out(self.decode(codes), codes, pre_BF, penalty_B, residual_BD, others)

    def _entries(self, read, most: int, k):
        """(values, indices, pre-activations): the `most` largest, those after the `k`-th zero."""
        pre_BF = pre_activations(*read)
        val_BK, idx_BK = top_k(pre_BF, most)
        val_BK = coding.select(val_BK, idx_BK, *read)
        return jax.nn.relu(val_BK) * (jnp.arange(most) < k), idx_BK, pre_BF
