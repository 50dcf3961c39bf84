"""Crosscoder: one set of latents for several sources, layers of a model or models, each with its own decoder.

    z = (x - b_dec) W_enc + b_enc    f = ReLU(z)    yhat^l = f W_dec^l + b_dec^l    w_i = sum_l |W_dec,i^l|

    selection "l1"          penalty = l1 * sum_i f_i w_i
              "batch_topk"  training   f = ReLU(z) [s among the B k largest of the batch],   s_i = f_i w_i
                            inference  f = ReLU(z) [s > theta],  theta = E_batches[smallest positive s kept]

Inputs are the sources side by side, x = [x^1 ... x^L], and so are the rows of W_dec and of W_enc: every rule,
sum and product is that of an autoencoder of width L D, and an encoder of the concatenation is the sum of the
sources' encoders. Which latents are shared, and which of one source alone, ops/sources.py reads off W_dec.

Source: Lindsey et al. 2024, "Sparse crosscoders for cross-layer features and model diffing" (l1); Bussmann et
al. 2024 (arXiv:2412.06410) for BatchTopK, by summed norms as crosscoders for model diffing take it. w is the
sum of the norms, which lets a latent be of one source alone at no price; `weight` "joint" takes the norm of
the whole row instead, under which a shared latent costs less than two exclusive ones. All sources start with
the same rows. "l1" goes with rule `unit_norm` false: held at unit norm, an atom cannot tell the sources'
sizes by its own. Differs: an autoencoder reads x - b_dec, as all here do (there x). With `d_out` it reads
some taps and writes others, as many: the acausal form.
"""

import jax
import jax.numpy as jnp
from jax import lax

from dictlearn.dictionaries import _allocation, _linear, _sources
from dictlearn.ops import penalties, sources
from dictlearn.ops.encode import pre_activations
from dictlearn.ops.topk.batch import batch_top
from dictlearn.types import Codes, Dictionary, Out, Scalar


class Crosscoder(Dictionary):
    """d_in: width of all sources together. n_latents: F. sources: L, each of d_in / L columns. selection:
    "batch_topk" or "l1". k: mean active latents a token under batch_topk; may be fractional and traced. l1:
    the coefficient under l1, on the scale of a squared error summed over all sources. weight: "sum" or
    "joint". aux_k: dead latents that AuxK uses a token under batch_topk, 0 for none. threshold_decay: of the
    running mean behind theta. d_out: width of all targets together, None where they are the inputs."""

    d_in: int
    n_latents: int
    sources: int = 2
    selection: str = "batch_topk"
    k: Scalar = 32
    l1: Scalar = 1.0
    weight: str = "sum"
    aux_k: int = 0
    threshold_decay: float = 0.999
    d_out: int | None = None

    def setup(self):
        for name, known in (("selection", ("batch_topk", "l1")), ("weight", ("sum", "joint"))):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name}={getattr(self, name)!r} must be one of {', '.join(known)}."
                )
        _sources.check(self)
        _linear.declare(self, rows=_sources.same_rows(self.sources))
        if self.selection == "batch_topk":
            _allocation.check(self)
            _allocation.declare_threshold(self)

    @property
    def foldable(self) -> bool:
        """Scores weighted by atoms of another scale than the input's do not scale with it."""
        return self.selection == "l1" or self.d_out is None

    def encode(self, x_BD) -> Codes:
        f_BF = jax.nn.relu(_linear.pre(self, x_BD))
        least_F = self.threshold()
        return Codes(f_BF if least_F is None else f_BF * (f_BF > least_F))

    def decode(self, codes: Codes):
        return _linear.decode(self, codes)

    def threshold(self):
        """What a latent must exceed, `[F]`: 0 before the first batch; None under l1."""
        if self.selection == "l1":
            return None
        weight_F = lax.stop_gradient(self._weight())
        return _allocation.threshold(self) / jnp.where(weight_F > 0, weight_F, 1)

    def __call__(self, x_BD, dead_F) -> Out:
        read = _linear.encoder(self, x_BD)
        if self.selection == "l1":
            pre_BF = _linear.product(*read)
            codes = Codes(jax.nn.relu(pre_BF))
            penalty_B = self.l1 * penalties.l1(codes.val * self._weight())
            return Out(self.decode(codes), codes, lax.stop_gradient(pre_BF), penalty_B)
        pre_BF = pre_activations(*read)
        f_BF, weight_F = jax.nn.relu(pre_BF), lax.stop_gradient(self._weight())
        n, most = jnp.round(self.k * x_BD.shape[0]).astype(jnp.int32), _allocation.crowd(self)
        f_BF = f_BF * batch_top(f_BF * weight_F, n, most)
        _allocation.remember(self, f_BF * weight_F)
        return _linear.few_or_many(self, read, pre_BF, f_BF, most, dead_F)

    def _weight(self):
        """w, `[F]`, in float32 or wider."""
        n = self.sources if self.weight == "sum" else 1
        return sources.norms(self.W_dec_FD, n).sum(1)
