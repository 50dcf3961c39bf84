"""GroupMax: the latents stand in k groups, and of each group the largest pre-activation fires.

    f_i = ReLU(z_i) * [z_i largest of its group]      group of latent i = floor(i / ceil(F / k))

It needs no sort: one pass finds k maxima. Two features that share a group never fire together.
Source: the activation "groupmax" of EleutherAI's sparsify (fused_encoder.py); we know of no paper.
Differs: F need not be a multiple of k, the last group is then smaller; AuxK as in our TopK.
"""

import jax
import jax.numpy as jnp

from dictlearn.dictionaries import _linear
from dictlearn.ops.encode import pre_activations
from dictlearn.ops.sparse import coding
from dictlearn.types import Codes, Dictionary, Out


class GroupMax(Dictionary):
    """d_in: width of the input. n_latents: F. k: groups, and so the most latents active on a token.
    aux_k: dead latents that AuxK uses a token, 0 for none. d_out: width of the target of a
    transcoder; None makes an autoencoder, which subtracts b_dec."""

    d_in: int
    n_latents: int
    k: int
    aux_k: int = 0
    d_out: int | None = None

    def setup(self):
        n, k = self.n_latents, self.k
        if not 1 <= k <= n or (k - 1) * -(-n // k) >= n:
            raise ValueError(f"{k=} groups of ceil(F / k) do not fit {n=} latents; let k divide F.")
        if self.aux_k > n:
            raise ValueError(f"{self.aux_k=} exceeds {self.n_latents=}.")
        _linear.declare(self)

    def encode(self, x_BD) -> Codes:
        return self._codes(_linear.encoder(self, x_BD))[0]

    def decode(self, codes: Codes):
        return _linear.decode(self, codes)

    def __call__(self, x_BD, dead_F) -> Out:
        read = _linear.encoder(self, x_BD)
        codes, pre_BF = self._codes(read)
        residual_BD = _linear.residual(self, read, pre_BF, codes, dead_F)
        return Out(self.decode(codes), codes, pre_BF, residual_BD=residual_BD)

    def _codes(self, read):
        pre_BF = pre_activations(*read)
        size = -(-self.n_latents // self.k)
        lacking = size * self.k - self.n_latents
        full = jnp.pad(pre_BF, ((0, 0), (0, lacking)), constant_values=-jnp.inf)
        groups = full.reshape(len(full), self.k, size)
        idx_BK = groups.argmax(-1) + size * jnp.arange(self.k)
        val_BK = coding.select(groups.max(-1), idx_BK, *read)
        return Codes(jax.nn.relu(val_BK), idx_BK), pre_BF
