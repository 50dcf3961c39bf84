"""Matryoshka: nested prefixes of the latents, each of which reconstructs the target by itself.

    yhat_j = sum_{i < m_j} f_i d_i + b_dec      loss = sum_j w_j objective(yhat_j) + AuxK of the whole

Latents are selected once, over all F, as `selection` says: "batch_topk" (over the batch, a threshold at
inference), "topk" (of each token) or "relu" (all positive ones, with `l1`). Group sums, accumulated, give all
yhat_j at the cost of one decode.

Source: Bussmann, Nabeshima et al. 2025 (arXiv:2503.17547), section 3, with the groups of SAEBench (1/32, 1/16,
1/8, 1/4 and the rest); ReLU and random prefixes as in Nabeshima's Matryoshka SAEs (2024), there with prefixes
of any length and latents put in order of size, here drawn from `prefixes` and never permuted. The weight of the
whole is 1; releases divide by the number of prefixes, which Adam does not see but clipping and penalties do.
"""

import itertools

import jax
import jax.numpy as jnp

from dictlearn.dictionaries import _allocation, _linear, _stats
from dictlearn.ops.encode import pre_activations
from dictlearn.ops.sparse import coding, support
from dictlearn.ops.topk.batch import batch_top
from dictlearn.ops.topk.exact import top_k
from dictlearn.types import Codes, Dictionary, Out, Scalar

_SELECTIONS = ("batch_topk", "topk", "relu")


class Matryoshka(Dictionary):
    """d_in: width of the input. n_latents: F. k: active latents a token, a mean under "batch_topk"; 0
    under "relu". k_max: bound of a traced k. prefixes: m_j ascending, shares of F (float)
    or latents (int), the last all of F. weights: w_j of all but the last, None for ones. draw: prefixes
    that a step uses beside the whole, drawn without replacement with probability proportional to
    m_j^-power - m_{j+1}^-power (a truncated Pareto law, rounded down to `prefixes`) by `seed`; 0 uses all.
    l1: coefficient of the sum of f in the penalty. aux_k: dead latents that AuxK uses a token.
    threshold_decay: of the running mean behind theta. d_out: width of a transcoder's target, or None."""

    d_in: int
    n_latents: int
    k: Scalar = 0
    selection: str = "batch_topk"
    k_max: int | None = None
    prefixes: tuple[float | int, ...] = (1 / 32, 3 / 32, 7 / 32, 15 / 32, 1.0)
    weights: tuple[float, ...] | None = None
    draw: int = 0
    power: float = 0.5
    seed: int = 0
    l1: Scalar = 0.0
    aux_k: int = 0
    threshold_decay: float = 0.999
    d_out: int | None = None

    def setup(self):
        if self.selection not in _SELECTIONS:
            raise ValueError(f"{self.selection=} must be one of {', '.join(_SELECTIONS)}.")
        if self.selection != "relu":
            _allocation.check(self)
        elif not isinstance(self.k, int | float) or self.k:
            raise ValueError(
                f"k={self.k} has no meaning under relu, where l1 is the knob; leave it 0."
            )
        if self.selection == "topk":
            self._most = _allocation.most(self)
        self._widths()
        _linear.declare(self)
        if self.selection == "batch_topk":
            _allocation.declare_threshold(self)
        if self.draw:
            _stats.declare_step(self)

    def encode(self, x_BD, prefix: int | None = None) -> Codes:
        """`prefix`: only the latents before this one, all others zero."""
        threshold = self.threshold()
        if threshold is None:
            codes, _ = self._top(_linear.encoder(self, x_BD))
        else:
            f_BF = jax.nn.relu(_linear.pre(self, x_BD))
            codes = Codes(f_BF * (f_BF > threshold))
        return codes if prefix is None else _between(codes, 0, prefix)

    def decode(self, codes: Codes):
        return _linear.decode(self, codes)

    def threshold(self):
        """theta, a scalar: 0 before the first batch and under "relu"; None under "topk"."""
        if self.selection == "topk":
            return None
        return _allocation.threshold(self) if self.selection == "batch_topk" else jnp.zeros(())

    def __call__(self, x_BD, dead_F) -> Out:
        read = _linear.encoder(self, x_BD)
        if self.selection == "topk":
            codes, pre_BF = self._top(read)
            residual_BD, _, atoms_FD = _linear.beside(self, read, pre_BF, codes, dead_F)
            entries = support.Entries(codes.val, codes.val > 0, codes.idx_BK)
            nested, l1_B = self._body(entries, atoms_FD)
        else:
            codes, pre_BF, most = self._kept(read)
            residual_BD, read, atoms_FD = _linear.beside(self, read, pre_BF, codes, dead_F)
            nested, l1_B = support.over(self._body, codes.val, pre_BF, most, *read, atoms_FD)
        *nested, y_BD = (part_BD + self.b_dec_D for part_BD in nested)
        others = tuple(zip(self._weights(), nested, strict=True))
        plain = isinstance(self.l1, int | float) and self.l1 == 0
        penalty_B = None if plain else self.l1 * l1_B
        return Out(
            y_BD, codes, jax.lax.stop_gradient(pre_BF), penalty_B, residual_BD, others=others
        )

    def _body(self, entries: support.Entries, W_FD):
        """The reconstruction from every prefix without its bias, and the sum of the latents."""
        val = jnp.where(entries.on, entries.z, 0)
        return entries.decode_nested(val, W_FD, tuple(self._widths())), val.sum(-1)

    def _kept(self, read):
        """Codes and pre-activations without gradient, and the latents of a token that are called few."""
        pre_BF = pre_activations(*read)
        f_BF = jax.nn.relu(pre_BF)
        if self.selection == "relu":
            return Codes(f_BF), pre_BF, _linear.crowd(self)
        most = _allocation.crowd(self)
        n = jnp.round(self.k * len(pre_BF)).astype(jnp.int32)
        f_BF = f_BF * batch_top(f_BF, n, most)
        _allocation.remember(self, f_BF)
        return Codes(f_BF), pre_BF, most

    def _top(self, read):
        pre_BF = pre_activations(*read)
        val_BK, idx_BK = top_k(pre_BF, self._most)
        val_BK = coding.select(val_BK, idx_BK, *read)
        return Codes(jax.nn.relu(val_BK) * (jnp.arange(self._most) < self.k), idx_BK), pre_BF

    def _weights(self):
        """w_j of every prefix but the last, zero for those not drawn."""
        widths = self._widths()
        weight_j = [1.0] * (len(widths) - 1) if self.weights is None else list(self.weights)
        if not self.draw:
            return weight_j
        survival = jnp.asarray(widths, jnp.float32) ** -self.power
        share = survival[:-1] - survival[1:]
        key, odds = _stats.next_key(self), share / share.sum()
        drawn = jax.random.choice(key, len(share), (self.draw,), replace=False, p=odds)
        on_j = jnp.zeros(len(share)).at[drawn].set(1.0)
        return [weight * on for weight, on in zip(weight_j, on_j, strict=True)]

    def _widths(self) -> list[int]:
        """m_j as numbers of latents. Raises ValueError for prefixes, weights or a draw that do not fit."""
        n = self.n_latents
        widths = [max(1, round(m * n)) if isinstance(m, float) else m for m in self.prefixes]
        rising = all(low < high for low, high in itertools.pairwise((0, *widths)))
        if not rising or widths[-1] != n:
            raise ValueError(
                f"prefixes={self.prefixes} are {widths}; they must rise to {n} latents."
            )
        if self.weights is not None and len(self.weights) != len(widths) - 1:
            raise ValueError(
                f"weights={self.weights} must be {len(widths) - 1}, one a proper prefix."
            )
        if not 0 <= self.draw < len(widths):
            raise ValueError(
                f"draw={self.draw} must be at most {len(widths) - 1}, the proper prefixes."
            )
        return widths


def _between(codes: Codes, low: int, high: int) -> Codes:
    """The same codes, zero outside latents low .. high - 1."""
    latent = jnp.arange(codes.val.shape[-1]) if codes.idx_BK is None else codes.idx_BK
    return codes._replace(val=codes.val * ((latent >= low) & (latent < high)))
