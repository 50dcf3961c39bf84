"""The linear SAE or transcoder: a linear encoder, an activation, and a linear decoder.

    z = (x - b_dec) W_enc + b_enc      f = activation(z)      yhat = f W_dec + b_dec  (+ x W_skip^T)

It is the structure of every dictionary that is named by its activation, and the base of the structures
that vary it. The skip connection makes any transcoder a skip transcoder, with an affine map of the input
whose constant is b_dec; W_skip starts at zero.

Source: the skip: Paulo, Shabalin & Belrose 2025 (arXiv:2501.18823), section 3.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Bool, Float

from dictlearn.dictionaries._activations import Activation, Few, Many, Weight
from dictlearn.dictionaries._topk import check_aux
from dictlearn.ops import auxk, penalties
from dictlearn.ops.encode import pre_activations
from dictlearn.ops.initialise import unit_rows
from dictlearn.ops.sparse import coding
from dictlearn.ops.sparse.support import Entries
from dictlearn.ops.topk.quantile import column_quantile
from dictlearn.types import Batch, Codes, Dictionary, Out, Tokens

MOST_TOKENS = 8192
"""The largest number of tokens of a batch from which `density_start` sets b_enc."""


class Linear(Dictionary):
    """The dictionary, with these hyperparameters.

    Args:
        d_in: the width of the input.
        n_latents: F.
        activation: which latents fire.
        d_out: the width of the target of a transcoder, which subtracts nothing from its input, None for
            an autoencoder.
        skip: whether a linear map of the input is added to a transcoder's reconstruction.
        subtract_b_dec: whether b_dec is subtracted from the input of an autoencoder.
        enc_scale: the ratio of the initial encoder to the initial decoder.
        density_start: the share of the tokens on which each latent fires at initialisation, set through
            b_enc, None to start b_enc at zero.
    """

    default: ClassVar[str] = "topk"
    """The default activation."""
    takes: ClassVar[tuple[str, ...] | None] = None
    """The activations that the structure takes, None for all; `because` says why it takes no other."""
    because: ClassVar[str] = ""
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """For each activation, the defaults of its fields where this structure changes them."""

    d_in: int
    n_latents: int
    activation: Activation
    d_out: int | None = None
    skip: bool = False
    subtract_b_dec: bool = True
    enc_scale: float = 1.0
    density_start: float | None = None

    def setup(self):
        nn.share_scope(self, self.activation)
        self._check()
        self._declare()
        if self.skip:
            self._declare_skip()
        self.activation.declare()

    def _check(self) -> None:
        if self.n_latents < 1:
            raise ValueError(f"n_latents={self.n_latents} must be at least 1.")
        check_aux(self.activation.aux_k, self.activation.aux_every, self.n_latents)
        if self.skip and self.d_out is None:
            raise ValueError(
                "skip=True is for transcoders: an autoencoder with a skip is trivial. Set "
                "stream.target, or leave out dictionary.skip."
            )
        if self.density_start is not None and not 0 < self.density_start < 1:
            raise ValueError(
                f"density_start={self.density_start} must be between 0 and 1, or None for b_enc at zero."
            )

    def _declare(self, rows=unit_rows) -> None:
        """Declares W_dec_FD (unit rows, drawn by `rows`), W_enc_FD, b_enc_F and b_dec_D. The encoder starts
        as the transpose of the decoder; where the widths of a transcoder differ, it starts with rows of
        its own. Both are stored by latents, so that every gather and scatter is of rows."""
        n, d_in, d_out = self.n_latents, self.d_in, self.d_out or self.d_in
        self.W_dec_FD = self.param("W_dec_FD", rows, (n, d_out))
        tied = lambda key: (
            self.enc_scale * (self.W_dec_FD if d_in == d_out else rows(key, (n, d_in)))
        )
        self.W_enc_FD = self.param("W_enc_FD", tied)
        self._declare_biases()

    def _declare_skip(self) -> None:
        self.W_skip_DD = self.param("W_skip_DD", nn.initializers.zeros, (self.d_out, self.d_in))

    def _declare_biases(self) -> None:
        d_out = self.d_out or self.d_in
        self.b_enc_F = self.param("b_enc_F", nn.initializers.zeros, (self.n_latents,))
        self.b_dec_D = self.param("b_dec_D", nn.initializers.zeros, (d_out,))

    @property
    def foldable(self) -> bool:
        return self.d_out is None or self.activation.scales

    def start(self, key: jax.Array, variables: dict, batch: Batch) -> dict:
        """`variables` with b_enc set so that each latent fires on `density_start` of the batch's tokens."""
        if self.density_start is None:
            return variables
        x_BD = jnp.asarray(batch.x_BD[:MOST_TOKENS])
        pre_BF: Any = self.apply(variables, x_BD, method="pre_activations")
        threshold: Any = self.apply(variables, method="threshold")
        lift_F = -column_quantile(pre_BF, 1 - self.density_start)
        lift_F = lift_F if threshold is None else threshold + lift_F
        return {**variables, "params": self.activation.lifted(dict(variables["params"]), lift_F)}

    def read(self, x_BD: Tokens) -> tuple:
        """`(x_BD, W_enc_FD, b_enc_F)`, from which pre-activations are `x W_enc^T + b_enc`. The input is `x -
        b_dec` in an autoencoder. The gradient of b_dec through the encoder is a sum over tokens, so it is
        routed through b_enc."""
        x_BD = jnp.asarray(x_BD)
        if not subtracts(self):
            return x_BD, self.W_enc_FD, self.b_enc_F
        b_enc_F = coding.shifted(self.b_enc_F, self.W_enc_FD, self.b_dec_D)
        return x_BD - lax.stop_gradient(self.b_dec_D), self.W_enc_FD, b_enc_F

    def pre_activations(self, x_BD: Tokens) -> Float[Array, "B F"]:
        """z of raw input, with gradient."""
        read = self.read(x_BD)
        return coding.given(pre_activations(*read), *read)

    def atoms(self) -> Any:
        """The matrix that decodes the codes: W_dec_FD, or what a structure computes instead."""
        return self.W_dec_FD

    def norms(self) -> Float[Array, " F"]:
        """d_i|, with gradient, in float32 or wider."""
        return penalties.row_norms(self.atoms())

    def weight(self) -> Weight:
        """`norms`, where the activation needs them; otherwise None."""
        return self.norms() if self.activation.weighted else None

    def threshold(self) -> jax.Array | None:
        return self.activation.threshold(self.weight())

    def encode(self, x_BD: Tokens) -> Codes:
        return self._encode(x_BD, self.weight())

    def decode(self, codes: Codes) -> Float[Array, "B D"]:
        return from_atoms(codes, self.atoms()) + self.b_dec_D

    def reconstruct(self, x_BD: Tokens) -> tuple[Float[Array, "B E"], Codes]:
        codes = self.encode(x_BD)
        return self._skipped(x_BD, self.decode(codes)), codes

    def __call__(self, x_BD: Tokens, dead_F: Bool[Array, " F"]) -> Out:
        return self._train(x_BD, dead_F, self.weight())

    def _encode(self, x_BD, weight: Weight) -> Codes:
        return self.activation.infer(self.pre_activations(x_BD), weight)

    def _train(self, x_BD, dead_F, weight: Weight) -> Out:
        read = self.read(x_BD)
        pre_BF = pre_activations(*read)
        chosen = self.activation.choose(pre_BF, lax.stop_gradient(weight), dead_F)
        residual_SD, read, atoms = self._with_auxk(read, pre_BF, chosen, dead_F)
        found = chosen.over(self._body, read, (atoms, weight))
        return self._out(x_BD, pre_BF, chosen, found, residual_SD)

    def _with_auxk(self, read, pre_BF, chosen: Few | Many, dead_F):
        """AuxK's reconstruction (None where `aux_k` is 0), and the weights routed through its custom VJP:
        compute the main path from these, so that both gradients accumulate in one buffer."""
        atoms, aux_k = self.atoms(), self.activation.aux_k
        if not aux_k:
            return None, read, atoms
        codes, helped_F = chosen.aux or (chosen.codes, dead_F)
        x_BD, W_enc_FD, b_enc_F = read
        sample = partial(auxk.sampled, every=self.activation.aux_every)
        weights, rectified = (W_enc_FD, b_enc_F, atoms), self.activation.aux_rectified
        ehat_SD, (W_enc_FD, b_enc_F, atoms) = auxk.reconstruct_residual(
            sample(x_BD), sample(pre_BF), codes, helped_F, *weights, aux_k, rectified
        )
        return ehat_SD, (x_BD, W_enc_FD, b_enc_F), atoms

    def _body(self, entries: Entries, atoms, weight: Weight, *arguments):
        """(reconstructions, reconstructions of a gate, penalty), without bias."""
        found = self.activation.values(entries, weight, *arguments)
        gates = ()
        if found.gate is not None:
            gates = self._parts(entries, found.gate, lax.stop_gradient(atoms))
        return self._parts(entries, found.val, atoms), gates, found.penalty_B

    def _parts(self, entries: Entries, val, atoms) -> tuple:
        """The reconstructions from the values of entries, without bias; the last one is the whole."""
        return (entries.decode(val, atoms),)

    def _part_weights(self) -> list:
        """The weights of the reconstructions before the whole."""
        return []

    def _out(self, x_BD, pre_BF, chosen: Few | Many, found, residual_SD) -> Out:
        parts, gates, penalty_B = found.whole
        weights = [*self._part_weights(), 1.0]
        whole = lambda y_BD, b_D=self.b_dec_D: self._skipped(x_BD, y_BD + b_D)
        others = [
            *((w, whole(y_BD)) for w, y_BD in zip(weights[:-1], parts[:-1], strict=True)),
            *((w, whole(more[0][-1])) for w, more in found.others),
        ]
        if gates:
            frozen = lambda y_BD: whole(y_BD, lax.stop_gradient(self.b_dec_D))
            others += [(w, frozen(y_BD)) for w, y_BD in zip(weights, gates, strict=True)]
        penalties_B = [each for each in (penalty_B, chosen.penalty_B) if each is not None]
        penalty_B = sum(penalties_B[1:], penalties_B[0]) if penalties_B else None
        y_BD, pre_BF = whole(parts[-1]), lax.stop_gradient(pre_BF)
        return Out(y_BD, found.codes, pre_BF, penalty_B, residual_SD, tuple(others))

    def _skipped(self, x_BD, y_BD):
        """`y + x W_skip^T` in a transcoder with a skip; otherwise `y`."""
        return y_BD + x_BD @ self.W_skip_DD.T if self.skip else y_BD


def subtracts(module: Dictionary) -> bool:
    """Whether the encoder subtracts b_dec from its input."""
    return module.d_out is None and module.subtract_b_dec


def centre(module, x_BD: Tokens) -> Float[Array, "B D"]:
    """The encoder's input: `x - b_dec` in an autoencoder that subtracts b_dec, otherwise `x`."""
    x_BD = jnp.asarray(x_BD)
    return x_BD - module.b_dec_D if subtracts(module) else x_BD


def from_atoms(codes: Codes, atoms_FD: Float[Array, "F D"]) -> Float[Array, "B D"]:
    """`codes atoms`, for sparse or dense codes."""
    if codes.idx_BK is None:
        return jnp.asarray(codes.val) @ atoms_FD
    return coding.decode(codes.val, codes.idx_BK, atoms_FD)


def decode(module, codes: Codes) -> Float[Array, "B D"]:
    """`codes W_dec + b_dec`."""
    return from_atoms(codes, module.W_dec_FD) + module.b_dec_D
