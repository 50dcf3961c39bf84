"""Crosscoder: one set of latents for several sources, layers of a model or models, each with its own decoder.

    z = (x - b_dec) W_enc + b_enc   f = activation(z)   yhat^l = f W_dec^l + b_dec^l   w_i = sum_l |W_dec,i^l|

What a latent adds is w_i, and the activations are `norm_weighted`, unless told otherwise: ReLU pays l1 f_i w_i,
TopK and BatchTopK ("batch_topk" where none is named) rank by f_i w_i, JumpReLU's tanh takes c f_i w_i.

Inputs are the sources side by side, x = [x^1 ... x^L], and so are the rows of W_dec and of W_enc: every rule,
sum and product is that of an autoencoder of width L D, and an encoder of the concatenation is the sum of the
sources' encoders. Which latents are shared, and which of one source alone, ops/sources.py reads off W_dec.

Source: Lindsey et al. 2024, "Sparse crosscoders for cross-layer features and model diffing" (ReLU); Bussmann et
al. 2024 (arXiv:2412.06410) for BatchTopK, by summed norms as crosscoders for model diffing take it. w is the
sum of the norms, which lets a latent be of one source alone at no price; `weight_by` "joint" takes the norm of
the whole row instead, under which a shared latent costs less than two exclusive ones. All sources start with
the same rows. ReLU goes with rule `unit_norm` false: held at unit norm, an atom cannot tell the sources'
sizes by its own. Differs: an autoencoder reads x - b_dec, as all here do (there x). With `d_out` it reads
some taps and writes others, as many: the acausal form.
"""

from typing import ClassVar

from dictlearn.dictionaries import _sources
from dictlearn.dictionaries._linear import Linear
from dictlearn.ops import sources


class Crosscoder(Linear):
    """d_in: width of all sources together. sources: L, each of d_in / L columns. weight_by: "sum" or "joint".
    d_out: width of all targets together, None where they are the inputs. All else as in `Linear`."""

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

    def norms(self):
        """w, `[F]`."""
        return sources.norms(self.W_dec_FD, self.sources if self.weight_by == "sum" else 1).sum(1)
