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

from dictlearn.dictionaries._by_layer import ByLayer


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
