"""A transcoder for each of several layers, all trained on the same pass of a model.

    z^l = x^l W_enc^l + b_enc^l    f = activation(z)    yhat^l = f^l W_dec^l + b_dec^l  (+ x^l W_skip^lT)

The inputs x = [x^1 ... x^L] and the targets y = [y^1 ... y^L] are concatenated over layers (`mlp_in.*` to
`mlp_out.*`), and latent i belongs to layer i mod L (`_by_layer`). BatchTopK keeps the B k largest f_i |d_i| of
all layers together, so k is that of a token in all layers, and a layer has as many as reduce the error most.
With `skip`, `W_skip_m_DD` is that of layer m. The transcoder of a layer, which shares no parameter with the
others, has the activation of inference: JumpReLU with the thresholds of the set, or ReLU where it has none.

Source: Dunefsky et al. 2024 (arXiv:2406.11944), transcoders; the skip as in `Linear`.
Normalise inputs and targets layer by layer (`unit_mean_sq`), and use the rule with `unit_norm` false.
"""

from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from dictlearn.dictionaries import _activations
from dictlearn.dictionaries._by_layer import ByLayer
from dictlearn.dictionaries._linear import Linear, subtracts
from dictlearn.ops import sources
from dictlearn.ops.firing import dense
from dictlearn.types import Codes

_LEAST = np.finfo(np.float32).tiny


class Transcoders(ByLayer):
    """The dictionary; its fields are those of `ByLayer`."""

    default = "batch_topk"
    takes = ("batch_topk", "jumprelu", "relu")
    because = "the latents of a layer must not depend on those of another"
    presets: ClassVar = {
        "batch_topk": {"norm_weighted": True, "k": 32},
        "jumprelu": {"penalty": "target_l0"},
        "relu": {"norm_weighted": True},
    }

    def _reach(self, layer: int) -> int:
        return 1

    def _declare_skip(self):
        n = self.sources
        shape = (self.d_out or self.d_in) // n, self.d_in // n
        zeros = nn.initializers.zeros
        self.skips = [self.param(f"W_skip_{m}_DD", zeros, shape) for m in range(n)]

    def _written(self, codes: Codes, decoders):
        f_BFL = dense(codes, self.n_latents).reshape(len(codes.val), -1, self.sources)
        parts = [f_BFL[:, :, m] @ W_FD for m, W_FD in enumerate(decoders)]
        return jnp.concatenate(parts, axis=1)

    def _skipped(self, x_BD, y_BD):
        if not self.skip:
            return y_BD
        x_BLD = sources.split(x_BD, self.sources)
        parts = [x_BLD[:, m] @ W_DD.T for m, W_DD in enumerate(self.skips)]
        return y_BD + jnp.concatenate(parts, axis=1)

    def by_layer(self, variables):
        n = self.sources
        d_in, F = self.d_in // n, self.n_latents // n
        threshold: Any = self.apply(variables, method="threshold")
        kind: Any = _activations.kind("relu" if threshold is None else "jumprelu")
        activation = kind(d_in=d_in, n_latents=F, sparsity=0.0, parent=None)
        d_out = (self.d_out or self.d_in) // n
        module = Linear(d_in, F, activation, d_out=d_out, skip=self.skip, parent=None)
        leaves = lambda layer: self._leaves(variables["params"], threshold, layer)
        return [(module, {"params": leaves(layer)}) for layer in range(n)]

    def _leaves(self, params, threshold, layer: int) -> dict[str, Any]:
        """The parameters of one layer."""
        n = self.sources
        found = {key: params[key][layer::n] for key in ("W_enc_FD", "b_enc_F")}
        found |= {"W_dec_FD": params[f"W_dec_{layer}_FD"]}
        found |= {"b_dec_D": jnp.reshape(params["b_dec_D"], (n, -1))[layer]}
        if subtracts(self):
            # The part is a transcoder, which subtracts nothing.
            found["b_enc_F"] -= found["W_enc_FD"] @ found["b_dec_D"]
        if self.skip:
            found["W_skip_DD"] = params[f"W_skip_{layer}_DD"]
        if threshold is not None:
            own_F = jnp.broadcast_to(threshold, (self.n_latents,))[layer::n]
            found["log_threshold_F"] = jnp.log(jnp.maximum(own_F, _LEAST))
        return found
