"""Crosscoder: one set of latents for several sources (layers or models), each with its own decoder.

    z = (x - b_dec) W_enc + b_enc   f = activation(z)   yhat^l = f W_dec^l + b_dec^l   w_i = sum_l |W_dec,i^l|

A latent is weighted by w_i. The activations are `norm_weighted` by default: ReLU penalises f_i w_i, TopK and
BatchTopK (the default) rank by f_i w_i, and the tanh penalty of JumpReLU reads c f_i w_i.

The sources are concatenated, x = [x^1 ... x^L], and so are the rows of W_dec and of W_enc. Every rule,
sum and product is therefore that of an autoencoder of width L D, and the encoder of the concatenation is
the sum of the encoders of the sources. ops/sources.py reads from W_dec which latents are shared and which
belong to one source. All sources start with the same rows.

Source: Lindsey et al. 2024, "Sparse crosscoders for cross-layer features and model diffing" (ReLU);
Bussmann et al. 2024 (arXiv:2412.06410) for BatchTopK, ranked by summed norms as crosscoders for model
diffing do. With w the sum of the norms, a latent of one source alone has no extra cost. `weight_by` "joint"
takes the norm of the whole row instead; a shared latent then costs less than two exclusive ones. With `d_out`
it reads some taps and writes the same number of others: the acausal form. Use ReLU with the rule's `unit_norm`
false: an atom at unit norm cannot express the scale of each source.

Differs: an autoencoder reads x - b_dec, as all dictionaries here do; the paper reads x.
"""

from typing import ClassVar

from jaxtyping import Array, Float

from dictlearn.dictionaries import _sources
from dictlearn.dictionaries._linear import Linear
from dictlearn.ops import sources


class Crosscoder(Linear):
    """The dictionary, with these hyperparameters.

    Args:
        d_in: the width of all sources together.
        sources: L, each with d_in / L columns.
        weight_by: "sum" or "joint".
        d_out: the width of all targets together, None where the targets are the inputs.

    The other fields are as in `Linear`.
    """

    default = "batch_topk"
    presets: ClassVar = {
        "batch_topk": {"norm_weighted": True, "k": 32},
        "topk": {"norm_weighted": True},
        "relu": {"norm_weighted": True},
    }

    sources: int = 2
    weight_by: str = "sum"

    def _check(self):
        super()._check()
        if self.weight_by not in ("sum", "joint"):
            raise ValueError(f"weight_by={self.weight_by!r} must be one of sum, joint.")
        _sources.check(self)

    def _declare(self, rows=None):
        super()._declare(_sources.same_rows(self.sources))

    def norms(self) -> Float[Array, " F"]:
        """w, `[F]`."""
        return sources.norms(self.W_dec_FD, self.sources if self.weight_by == "sum" else 1).sum(1)
