"""TopK: the k largest pre-activations of each token, rectified.

    z = (x - b_dec) W_enc + b_enc      f = ReLU(TopK_k(z))      yhat = f W_dec + b_dec

Source: Makhzani & Frey 2013 (arXiv:1312.5663); Gao et al. 2024 (arXiv:2406.04093), equations 4-5, AuxK
from section A.2, Multi-TopK from section 5.2. A token with fewer than k positive pre-activations has fewer
than k active latents. The gradient reaches only the entries kept, and is as sparse as they are.
`norm_weighted` ranks by z |d_i|, and annealing lets k fall: Llama Scope (He et al. 2024, arXiv:2410.20526),
section 3; there without AuxK, which here ranks dead latents by z.
"""

import jax
import jax.numpy as jnp

from dictlearn.dictionaries import _allocation, _linear, _stats
from dictlearn.ops.encode import pre_activations
from dictlearn.ops.sparse import coding
from dictlearn.ops.topk.by_score import top_by
from dictlearn.ops.topk.exact import top_k
from dictlearn.types import Codes, Dictionary, Out, Scalar


class TopK(Dictionary):
    """d_in: width of the input. n_latents: F. k: active latents a token; may be traced if `k_max`, its
    bound, is given. aux_k: dead latents that AuxK uses a token, 0 for none (the paper: about d_in / 2).
    multi: weight of the loss of the reconstruction from `multi_factor` k latents, 0 for none (the paper:
    1/8), which keeps reconstructions good at other k. norm_weighted: rank latents by what they add, for
    atoms not held at unit norm. anneal_steps: steps over which k falls from `k_start` (None: d_in) as
    `anneal`, "linear" or "exponential", says; every step then keeps k_start entries in memory and computes
    with k. d_out: width of the target of a transcoder; None makes an autoencoder, which subtracts b_dec."""

    d_in: int
    n_latents: int
    k: Scalar
    k_max: int | None = None
    aux_k: int = 0
    multi: float = 0.0
    multi_factor: int = 4
    norm_weighted: bool = False
    anneal_steps: int = 0
    k_start: int | None = None
    anneal: str = "linear"
    d_out: int | None = None

    def setup(self):
        self._most = _allocation.most(self)
        if self.aux_k > self.n_latents:
            raise ValueError(f"{self.aux_k=} exceeds {self.n_latents=}.")
        if self.multi_factor < 2:
            raise ValueError(f"{self.multi_factor=} must be at least 2, a multiple of k.")
        _allocation.check_annealing(self)
        _linear.declare(self)
        if self.anneal_steps:
            _stats.declare_step(self)

    def encode(self, x_BD) -> Codes:
        read = _linear.encoder(self, x_BD)
        val_BK, idx_BK, _ = self._ranked(read, self._most)
        return _first(_valued(val_BK, idx_BK, read), self._most, self.k)

    def decode(self, codes: Codes):
        return _linear.decode(self, codes)

    def __call__(self, x_BD, dead_F) -> Out:
        read = _linear.encoder(self, x_BD)
        k, width = _allocation.annealed(self), self._most
        if self.anneal_steps:
            width = max(width, _allocation.k_start(self))
            _stats.advance(self)
        widest = min(self.n_latents, width * (self.multi_factor if self.multi else 1))
        used = _allocation.used(k, width)
        used_wide = _allocation.used(self.multi_factor * k, widest) if self.multi else used
        val_BK, idx_BK, pre_BF = self._ranked(read, widest)
        codes = _first(Codes(jax.nn.relu(val_BK), idx_BK), width, k)
        residual_BD, read, atoms_FD = _linear.beside(self, read, pre_BF, codes, dead_F)
        wide = _valued(val_BK, idx_BK, read, used_wide)
        decode = lambda codes, used: _linear.from_atoms(codes, atoms_FD, used) + self.b_dec_D
        others = ()
        if self.multi:
            more = _first(wide, widest, self.multi_factor * k)
            others = ((self.multi, decode(more, used_wide)),)
        codes = _first(wide, width, k)
        y_BD = decode(codes, used)
        return Out(y_BD, codes, pre_BF, residual_BD=residual_BD, others=others)

    def _ranked(self, read, n: int):
        """The `n` pre-activations of each token that rank first, their latents, and all pre-activations,
        without gradient."""
        pre_BF = pre_activations(*read)
        if not self.norm_weighted:
            return *top_k(pre_BF, n), pre_BF
        score_BF = jax.nn.relu(pre_BF) * _allocation.atom_norms(self)
        return *top_by(score_BF, pre_BF, n), pre_BF


def _valued(val_BK, idx_BK, read, used=None) -> Codes:
    """Codes of the entries that rank first, with gradient. used: how many may have one."""
    return Codes(jax.nn.relu(coding.select(val_BK, idx_BK, *read, used)), idx_BK)


def _first(codes: Codes, width: int, k) -> Codes:
    """Of codes in order of rank the first `width`, those from rank `k` on zero; a fraction counts whole."""
    assert codes.idx_BK is not None, "codes in order of rank are sparse"
    return Codes(codes.val[:, :width] * (jnp.arange(width) < k), codes.idx_BK[:, :width])
