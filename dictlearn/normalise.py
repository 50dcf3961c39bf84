"""Input normalisation: estimated, applied to batches, undone on reconstructions, or folded away.

    none               x
    mean_norm_sqrt_d   s x,  s = sqrt(d) / E|x|         the mean norm becomes sqrt(d)
    unit_mean_sq       s x,  s = 1 / sqrt(E|x|^2)       the mean squared norm becomes 1
    token_layernorm    (x - mean(x)) / (std(x) + 1e-5)  statistics over D, token by token
    token_unit         x / |x|                          token by token

The first three are scalar kinds: one number for the inputs and one for the targets, the same number
in an autoencoder. The last two are per-token kinds: they exist for autoencoders only, because what
would restore a transcoder's target is not known from its input, and no weights can absorb them.

Source: Anthropic's update of April 2024 and Llama Scope (mean_norm_sqrt_d); Rajamanoharan et al.
2024, "Jumping ahead", and Gemma Scope (unit_mean_sq); the released code of Gao et al. 2024, whose
paper divides by the norm, not the deviation (token_layernorm); Leask et al. 2025 (token_unit).
Difference: an all-zero token stays zero under token_unit instead of becoming NaN.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from dictlearn.types import Batch

SCALAR_KINDS = ("none", "mean_norm_sqrt_d", "unit_mean_sq")
TOKEN_KINDS = ("token_layernorm", "token_unit")
KINDS = SCALAR_KINDS + TOKEN_KINDS

Array = jax.Array | np.ndarray


@dataclass(frozen=True)
class Norm:
    """How activations were scaled: `x_n = scale_in * x`, `y_n = scale_out * y`; both 1 in the
    per-token kinds. `dataclasses.asdict` gives JSON, and `Norm(**json)` the same Norm back.

    Errors: ValueError for an unknown kind, or a scale that is not positive and finite."""

    kind: str = "none"
    scale_in: float = 1.0
    scale_out: float = 1.0

    def __post_init__(self):
        check_kind(self.kind)
        for name, scale in (("scale_in", self.scale_in), ("scale_out", self.scale_out)):
            if not (math.isfinite(scale) and scale > 0):
                raise ValueError(f"{name}={scale} must be positive and finite.")


def check_kind(kind: str, transcoder: bool = False) -> None:
    """ValueError for a kind that does not exist, or that a transcoder cannot use."""
    if kind not in KINDS:
        raise ValueError(f"Unknown normalisation {kind!r}; there are {', '.join(KINDS)}.")
    if transcoder and kind in TOKEN_KINDS:
        raise ValueError(
            f"{kind} is per token and cannot be undone on a transcoder's target; "
            f"use one of {', '.join(SCALAR_KINDS)}."
        )


def scale(kind: str, width: int, mean_norm: float, mean_square: float) -> float:
    """The scalar of a kind (1 for `none` and the per-token kinds), from E|x| and E|x|^2."""
    check_kind(kind)
    if kind == "mean_norm_sqrt_d" and mean_norm > 0:
        return math.sqrt(width) / mean_norm
    if kind == "unit_mean_sq" and mean_square > 0:
        return 1.0 / math.sqrt(mean_square)
    if kind in ("mean_norm_sqrt_d", "unit_mean_sq"):
        raise ValueError(f"{kind} needs activations that are not all zero; E|x| is {mean_norm}.")
    return 1.0


def norm_sums(x_BD: Float[np.ndarray, "B D"]) -> np.ndarray:
    """Tokens, sum of |x| and sum of |x|^2 of one array, float64, [3]."""
    square_B = np.square(x_BD, dtype=np.float64).sum(axis=1)
    return np.array([len(square_B), np.sqrt(square_B).sum(), square_B.sum()])


def estimate(kind: str, batches: Iterable[Batch], n_tokens: int = 100_000) -> Norm:
    """The Norm of a kind, from sums in float64 over the first batches that hold `n_tokens` tokens,
    or all there are. Batches are raw activations, special and padding tokens left out already.

    Errors: ValueError for an unknown kind, no tokens, or activations that are all zero."""
    check_kind(kind)
    if kind not in ("mean_norm_sqrt_d", "unit_mean_sq"):
        return Norm(kind)
    sums_in, sums_out, d_in, d_out = np.zeros(3), np.zeros(3), 0, 0
    for batch in batches:
        added = norm_sums(np.asarray(batch.x_BD))
        sums_in += added
        sums_out += added if batch.y_BD is batch.x_BD else norm_sums(np.asarray(batch.y_BD))
        d_in, d_out = batch.x_BD.shape[1], batch.y_BD.shape[1]
        if sums_in[0] >= n_tokens:
            break
    if not sums_in[0]:
        raise ValueError(f"{kind} is estimated from activations, and there were none.")
    scales = [
        scale(kind, d, norms / tokens, squares / tokens)
        for d, (tokens, norms, squares) in ((d_in, sums_in.tolist()), (d_out, sums_out.tolist()))
    ]
    return Norm(kind, *scales)


def forward(norm: Norm, x_BD: Float[Array, "B D"]) -> tuple[Array, Callable[[Any], Any]]:
    """Normalised inputs [B, D], and the function that takes a normalised reconstruction [B, D] back
    to the space of the raw targets. Works on numpy and, under a trace, on JAX arrays."""
    if norm.kind == "none":
        return x_BD, lambda y_BD: y_BD
    if norm.kind == "token_layernorm":
        mean_B1 = x_BD.mean(axis=-1, keepdims=True)
        deviation_B1 = x_BD.std(axis=-1, keepdims=True) + 1e-5
        return (x_BD - mean_B1) / deviation_B1, lambda y_BD: y_BD * deviation_B1 + mean_B1
    if norm.kind == "token_unit":
        norm_B1 = (x_BD * x_BD).sum(axis=-1, keepdims=True) ** 0.5
        return x_BD / (norm_B1 + (norm_B1 == 0)), lambda y_BD: y_BD * norm_B1
    return x_BD * norm.scale_in, lambda y_BD: y_BD / norm.scale_out


def apply(norm: Norm, batch: Batch) -> Batch:
    """The batch normalised; where y is x it stays the same array.

    Errors: ValueError for a per-token kind on a batch whose targets are not its inputs."""
    x_BD, _ = forward(norm, batch.x_BD)
    if batch.y_BD is batch.x_BD:
        return Batch(x_BD, x_BD)
    check_kind(norm.kind, transcoder=True)
    return Batch(x_BD, batch.y_BD * norm.scale_out)


def fold(
    norm: Norm,
    W_enc_DF: Float[Array, "D F"],
    b_enc_F: Float[Array, " F"],
    W_dec_FD: Float[Array, "F D_out"],
    b_dec_D: Float[Array, " D_out"],
    threshold_F: Float[Array, "..."] | None = None,
) -> tuple[Any, Any, Any, Any, Any]:
    """Weights that read raw inputs and write raw targets: (W_enc, b_enc, W_dec, b_dec, threshold).

    With s = scale_in and r = scale_out, as in Llama Scope:

        b_enc / s     threshold / s     W_dec s / r     b_dec / r

    It is exact wherever scaling the pre-activations and the threshold by 1/s scales the codes by
    1/s: ReLU, JumpReLU, TopK. The same formulae serve `pre = x W_enc + b_enc` (a transcoder) and
    `pre = (x - b_dec) W_enc + b_enc` (an autoencoder, whose r is s, so that W_dec stays).

    Errors: ValueError for the per-token kinds, which no weights can absorb."""
    if norm.kind in TOKEN_KINDS:
        raise ValueError(
            f"{norm.kind} divides every token by its own statistics and cannot be folded into "
            "weights; call normalise.forward around the dictionary instead."
        )
    threshold_folded_F = None if threshold_F is None else threshold_F / norm.scale_in
    return (
        W_enc_DF,
        b_enc_F / norm.scale_in,
        W_dec_FD * (norm.scale_in / norm.scale_out),
        b_dec_D / norm.scale_out,
        threshold_folded_F,
    )
