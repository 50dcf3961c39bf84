"""Shared by transcoders of several layers: latent i reads layer i mod L, and writes that layer and maybe later
ones.

A mesh that splits the latents then gives every device the same share of every layer, and no layer's product
moves a code. W_enc_FD has only the columns of its latent's layer, and `W_dec_m_FD`, of the F / L latents of
layer m, only those of the layers that they write.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

from dictlearn.dictionaries import _linear, _sources
from dictlearn.dictionaries._linear import Linear
from dictlearn.ops import auxk, penalties, sources
from dictlearn.ops.firing import dense
from dictlearn.ops.topk.exact import top_k
from dictlearn.types import Codes, Tokens


class ByLayer(Linear):
    """The structure. A subclass says by `_reach` how many layers a latent writes.

    Args:
        d_in: the width of the inputs of all layers together.
        n_latents: F, over all layers.
        sources: L, which divides both.
        d_out: the width of the targets of all layers together, None where the targets are the inputs.

    The other fields are as in `Linear`.
    """

    layered: ClassVar[bool] = True

    sources: int = 2

    def _check(self):
        super()._check()
        _sources.check(self)
        if self.n_latents < self.sources or self.n_latents % self.sources:
            raise ValueError(
                f"n_latents={self.n_latents} must be a multiple of sources={self.sources}: the same "
                "number for each layer."
            )

    def _reach(self, layer: int) -> int:
        """The number of layers, from its own on, that the latents of a layer write."""
        raise NotImplementedError

    def _declare(self):
        n, F = self.sources, self.n_latents
        each, d_in, d_out = F // n, self.d_in // n, (self.d_out or self.d_in) // n
        uniform = lambda bound: (
            lambda key, shape: jax.random.uniform(key, shape, minval=-bound, maxval=bound)
        )
        read = uniform(self.enc_scale * each**-0.5)
        self.W_enc_FD = self.param("W_enc_FD", read, (F, d_in))
        write = uniform((self._reach(0) * d_out) ** -0.5)
        self.decoders = [
            self.param(f"W_dec_{m}_FD", write, (each, self._reach(m) * d_out)) for m in range(n)
        ]
        self._declare_biases()

    def pre_activations(self, x_BD: Tokens) -> Float[Array, "B F"]:
        x_BLD = sources.split(_linear.centre(self, x_BD), self.sources)
        W_FLD = self.W_enc_FD.reshape(-1, self.sources, self.W_enc_FD.shape[1])
        pre_BF = jnp.einsum("bld,fld->bfl", x_BLD, W_FLD).reshape(len(x_BD), -1)
        return pre_BF + self.b_enc_F

    def atoms(self):
        """The decoders of all layers, each by the latents of its layer."""
        return self.decoders

    def norms(self) -> Float[Array, " F"]:
        norm_FL = jnp.stack([penalties.row_norms(W_FD) for W_FD in self.decoders], axis=1)
        return norm_FL.reshape(-1)

    def decode(self, codes: Codes) -> Float[Array, "B D"]:
        return self._written(codes, self.decoders) + self.b_dec_D

    def _train(self, x_BD, dead_F, weight):
        pre_BF = self.pre_activations(x_BD)
        chosen = self.activation.choose(*lax.stop_gradient((pre_BF, weight)), dead_F)
        found = chosen.given(self._body, pre_BF, (self.decoders, weight))
        return self._out(x_BD, pre_BF, chosen, found, self._residual(pre_BF, chosen, dead_F))

    def _residual(self, pre_BF, chosen, dead_F):
        """AuxK's reconstruction by `aux_k` dead latents; None where `aux_k` is 0."""
        if not self.activation.aux_k:
            return None
        codes, helped_F = chosen.aux or (chosen.codes, dead_F)
        helped_F = helped_F & ~(dense(codes, self.n_latents) > 0).any(0)
        pre_SF = auxk.sampled(pre_BF, self.activation.aux_every)
        _, idx_SK = top_k(pre_SF, self.activation.aux_k, helped_F)
        val_SK = jnp.take_along_axis(pre_SF, idx_SK, axis=1) * helped_F[idx_SK]
        if self.activation.aux_rectified:
            val_SK = nn.relu(val_SK)
        return self._written(Codes(val_SK, idx_SK), self.decoders)

    def _parts(self, entries, val, atoms):
        return (self._written(Codes(val, entries.idx), atoms),)

    def _written(self, codes: Codes, decoders):
        """The contributions of the latents to all layers, without bias."""
        f_BFL = dense(codes, self.n_latents).reshape(len(codes.val), -1, self.sources)
        width = len(self.b_dec_D) // self.sources
        y_BD = 0.0
        for m, W_FD in enumerate(decoders):
            after = len(self.b_dec_D) - m * width - W_FD.shape[1]
            y_BD += jnp.pad(f_BFL[:, :, m] @ W_FD, ((0, 0), (m * width, after)))
        return y_BD
