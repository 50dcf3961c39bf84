"""Cross-layer transcoder: the latents of each layer read that layer and write to it and to all later layers.

    z^l = x^l W_enc^l + b_enc^l    f = activation(z)    yhat^l = sum_{m <= l} f^m W_dec^{m->l} + b_dec^l

The inputs x = [x^1 ... x^L] and the targets y = [y^1 ... y^L] are concatenated over layers (`mlp_in.*` to
`mlp_out.*`). Latent i belongs to layer i mod L, and `W_dec_m_FD`, of the F / L latents of layer m, has only the
columns of the layers m, m + 1, ... (`_by_layer`); together that is L (L + 1) / 2 decoders. The norm |d_i| of a
latent is the norm of everything that it writes. The default activation is "jumprelu" with the penalty
sparsity * sum_i tanh(c f_i |d_i|) and no revival; TopK divides its k among the latents of all layers. The
gradients are in ops/jumprelu.py. Without `d_out` the targets are the inputs, and the encoder subtracts b_dec.

Source: Ameisen et al. 2025, "Circuit tracing", appendix on cross-layer transcoders, read at second hand.
Normalise inputs and outputs layer by layer (`mean_norm_sqrt_d`), and use the rule with `unit_norm` false.

UNSURE: the initial theta 0.03 and the window 1, c, and the sparsity, which should be swept with the
learner's `penalty_warmup_steps` set to the whole run.
"""

from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from dictlearn.dictionaries._by_layer import ByLayer
from dictlearn.ops.firing import dense
from dictlearn.types import Codes, Tokens


class CLT(ByLayer):
    """The dictionary; its fields are those of `ByLayer`."""

    default = "jumprelu"
    presets: ClassVar = {
        "jumprelu": {"penalty": "tanh", "threshold_start": 0.03, "bandwidth": 1.0, "revival": 0.0},
        "topk": {"norm_weighted": True},
        "batch_topk": {"norm_weighted": True},
        "relu": {"norm_weighted": True},
    }

    def _reach(self, layer: int) -> int:
        return self.sources - layer

    def written_to(self, x_BD: Tokens, codes: Codes, layer: int) -> Float[Array, "B E"]:
        """The reconstruction of one layer, with zeros for all others: that layer's part of the work."""
        f_BFL = dense(codes, self.n_latents).reshape(len(codes.val), -1, self.sources)
        width = len(self.b_dec_D) // self.sources
        before, after = layer * width, (self.sources - layer - 1) * width
        y_BD = jnp.broadcast_to(self.b_dec_D[before:][:width], (len(codes.val), width))
        for m in range(layer + 1):
            y_BD += f_BFL[:, :, m] @ self.decoders[m][:, (layer - m) * width :][:, :width]
        if self.skip:
            y_BD += jnp.asarray(x_BD) @ self.W_skip_DD[before:][:width].T
        return jnp.pad(y_BD, ((0, 0), (before, after)))
