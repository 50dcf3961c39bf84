"""Input normalisation: estimation, application to batches, and its inverse (`runs/fold.py` folds it into
weights).

    none               x
    mean_norm_sqrt_d   s x,  s = sqrt(d) / E|x|         the mean norm becomes sqrt(d)
    unit_mean_sq       s x,  s = 1 / sqrt(E|x|^2)       the mean squared norm becomes 1
    token_layernorm    (x - mean(x)) / (std(x) + 1e-5)  statistics over D, for each token
    token_unit         x / |x|                          for each token
    standardise        (x - mu) W^T                     W = diag(sigma)^-1 of the deviations of the dimensions
    whiten             (x - mu) W^T                     W = Lambda^-1/2 V^T of the covariance V Lambda V^T

The first three are scalar kinds: one number for the inputs and one for the targets, the same number in an
autoencoder. With several concatenated sources there is one number for each. The next two are per-token kinds:
they exist only for autoencoders, because the statistics of a transcoder's target are not known from its input,
and no weights can absorb them. The affine kinds, standardised dimensions and whitening (in the basis of the
principal components), are also for autoencoders, and are inverted exactly. Directions with less than 1e-6 of
the largest variance are scaled as if they had that variance. Scalar and affine kinds and token_unit work at any
scale of the activations; the 1e-5 of token_layernorm matters where deviations are below 1e-2.

Source: Anthropic's update of April 2024 and Llama Scope (mean_norm_sqrt_d); Rajamanoharan et al. 2024,
"Jumping ahead", and Gemma Scope (unit_mean_sq); the released code of Gao et al. 2024, whose paper divides
by the norm, not the deviation (token_layernorm); Leask et al. 2025 (token_unit); Fel et al. 2025
(standardise); Donhauser et al. 2024 (whiten, there from control data).

Differs: an all-zero token stays zero under token_unit instead of becoming NaN.
"""

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from dictlearn.types import Batch

SCALAR_KINDS = ("none", "mean_norm_sqrt_d", "unit_mean_sq")
TOKEN_KINDS = ("token_layernorm", "token_unit")
AFFINE_KINDS = ("standardise", "whiten")
KINDS = (*SCALAR_KINDS, *TOKEN_KINDS, *AFFINE_KINDS)
_LEAST_VARIANCE = 1e-6

Array = jax.Array | np.ndarray


@dataclass(frozen=True, eq=False)
class Norm:
    """The scales of activations: `x_n = scale_in * x`, `y_n = scale_out * y`; both are 1 in the per-token
    and the affine kinds. A pytree of float32 arrays with a static kind.

    scale_in, scale_out: [] or, for several concatenated sources, [L], each for its part of the columns.
    scale_gradient: [], for gradients at x: `g_n = scale_gradient * g` has a root mean square of 1 over
    tokens and dimensions. mean_D, matrix_DD: mu and W of the affine kinds, None in the others.

    Raises ValueError for an unknown kind, or a scale that is not positive and finite.
    """

    kind: str = "none"
    scale_in: Any = 1.0
    scale_out: Any = 1.0
    scale_gradient: Any = 1.0
    mean_D: Any = None
    matrix_DD: Any = None

    def __post_init__(self):
        check_kind(self.kind)
        for name in LEAVES:
            leaf = getattr(self, name)
            object.__setattr__(self, name, None if leaf is None else np.asarray(leaf, np.float32))
        for name in ("scale_in", "scale_out", "scale_gradient"):
            scale = getattr(self, name)
            if not np.all(np.isfinite(scale) & (scale > 0)):
                raise ValueError(f"{name}={scale.tolist()} must be positive and finite.")
        affine = self.mean_D is not None and self.matrix_DD is not None
        if affine != (self.kind in AFFINE_KINDS):
            raise ValueError(
                f"mean_D and matrix_DD belong to {' and '.join(AFFINE_KINDS)}, not to {self.kind}."
            )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Norm) or self.kind != other.kind:
            return False
        return all(map(np.array_equal, arrays(self).values(), arrays(other).values()))

    @property
    def by_source(self) -> bool:
        """Whether each of several sources has a scale of its own."""
        return np.ndim(self.scale_in) + np.ndim(self.scale_out) > 0


LEAVES = ("scale_in", "scale_out", "scale_gradient", "mean_D", "matrix_DD")


def _unflatten(kind: str, leaves: Iterable[Any]) -> Norm:
    """Makes a Norm without __init__: under a trace, and in place of arrays, leaves cannot be checked."""
    norm = object.__new__(Norm)
    for name, leaf in zip(("kind", *LEAVES), (kind, *leaves), strict=True):
        object.__setattr__(norm, name, leaf)
    return norm


jax.tree_util.register_pytree_node(
    Norm, lambda norm: ([getattr(norm, name) for name in LEAVES], norm.kind), _unflatten
)


def arrays(norm: Norm) -> dict[str, Array]:
    """The arrays of a Norm by name, without those that its kind lacks: `Norm(kind, **arrays)` is equal to
    the Norm."""
    leaves = {name: getattr(norm, name) for name in LEAVES}
    return {name: leaf for name, leaf in leaves.items() if leaf is not None}


def check_kind(kind: str, transcoder: bool = False) -> None:
    """Raises ValueError for an unknown kind, or for a kind that a transcoder cannot use."""
    if kind not in KINDS:
        raise ValueError(f"unknown normalisation {kind!r}; the kinds are {', '.join(KINDS)}.")
    if transcoder and kind not in SCALAR_KINDS:
        raise ValueError(
            f"{kind} normalises by the inputs and cannot be inverted on a transcoder's target; "
            f"use one of {', '.join(SCALAR_KINDS)}."
        )


def scale(kind: str, width: int, mean_norm: float, mean_square: float) -> float:
    """The scale of a scalar kind (1 for `none` and the per-token kinds), from E|x| and E|x|^2."""
    check_kind(kind)
    if kind == "mean_norm_sqrt_d" and mean_norm > 0:
        return math.sqrt(width) / mean_norm
    if kind == "unit_mean_sq" and mean_square > 0:
        return 1.0 / math.sqrt(mean_square)
    if kind in ("mean_norm_sqrt_d", "unit_mean_sq"):
        raise ValueError(f"{kind} needs activations that are not all zero; E|x| is {mean_norm}.")
    return 1.0


def side_by_side(scales: Sequence[float]) -> float | tuple[float, ...]:
    """The scales of concatenated sources in the form of a Norm: a number for one source, a tuple for
    several."""
    return scales[0] if len(scales) == 1 else tuple(scales)


def norm_sums(x_BD: Float[np.ndarray, "B D"]) -> np.ndarray:
    """The number of tokens, the sum of |x| and the sum of |x|^2 of one array, float64, [3]. Raises ValueError
    for rows that are not finite."""
    square_B = np.square(_wide(x_BD)).sum(axis=1)
    return np.array([len(square_B), np.sqrt(square_B).sum(), square_B.sum()])


def estimate(
    kind: str,
    batches: Iterable[Batch],
    n_tokens: int = 100_000,
    sources: tuple[int, int] = (1, 1),
) -> Norm:
    """The Norm of a kind, from sums in float64 over the first batches with `n_tokens` tokens in total, or
    over all batches. Batches are raw activations, without special and padding tokens. sources: the number
    of concatenated sources in the inputs and in the targets; each is scaled by itself.

    Raises ValueError for an unknown kind, for no tokens, for activations that are all zero or not finite,
    and for a kind that is not scalar with several sources.
    """
    check_kind(kind)
    if max(sources) > 1 and kind not in SCALAR_KINDS:
        raise ValueError(
            f"{kind} is for one source, but {max(sources)} are concatenated; "
            f"use one of {', '.join(SCALAR_KINDS)}."
        )
    if kind in AFFINE_KINDS:
        return _affine(kind, batches, n_tokens)
    if kind not in ("mean_norm_sqrt_d", "unit_mean_sq"):
        return Norm(kind)
    sums, widths = [np.zeros((n, 3)) for n in sources], [0, 0]
    for batch in batches:
        for side, rows_BD in enumerate((batch.x_BD, batch.y_BD)):
            if side and batch.y_BD is batch.x_BD and sources[0] == sources[1]:
                sums[1], widths[1] = sums[0].copy(), widths[0]
                continue
            parts = np.split(np.asarray(rows_BD), sources[side], axis=1)
            sums[side] += [norm_sums(part) for part in parts]
            widths[side] = parts[0].shape[1]
        if sums[0][0, 0] >= n_tokens:
            break
    if not sums[0][0, 0]:
        raise ValueError(f"{kind} is estimated from activations, but the stream has none.")
    scales = [
        [scale(kind, width, norms / tokens, squares / tokens) for tokens, norms, squares in rows]
        for width, rows in zip(widths, (side.tolist() for side in sums), strict=True)
    ]
    return Norm(kind, side_by_side(scales[0]), side_by_side(scales[1]))


def _wide(x_BD: np.ndarray) -> np.ndarray:
    """The rows in float64. Raises ValueError for rows that are not finite, which would make every sum NaN."""
    wide_BD = np.asarray(x_BD, np.float64)
    bad = int((~np.isfinite(wide_BD).all(axis=1)).sum())
    if bad:
        raise ValueError(
            f"{bad} of {len(wide_BD)} rows of activations are not finite; leave them out, or inspect their"
            " source."
        )
    return wide_BD


def gradient_scale(width: int, mean_square: float) -> float:
    """The scale that gives gradients [B, width] with this E|g|^2 a root mean square of 1. Raises ValueError
    for zero."""
    if not mean_square > 0:
        raise ValueError(
            "the gradients at the tap are all zero; use a tap that the loss depends on."
        )
    return math.sqrt(width / mean_square)


def _affine(kind: str, batches: Iterable[Batch], n_tokens: int) -> Norm:
    tokens, first_D, sum_D, square_DD = 0, np.zeros(1), np.zeros(1), np.zeros((1, 1))
    for batch in batches:
        check_kind(kind, transcoder=batch.y_BD is not batch.x_BD)
        wide_BD = _wide(batch.x_BD)
        # About one of the rows, a mean far from zero costs no digits.
        first_D = wide_BD[0] if not tokens and len(wide_BD) else first_D
        tokens, wide_BD = tokens + len(wide_BD), wide_BD - first_D
        sum_D, square_DD = sum_D + wide_BD.sum(0), square_DD + wide_BD.T @ wide_BD
        if tokens >= n_tokens:
            break
    if tokens < 2:
        raise ValueError(
            f"{kind} is estimated from at least 2 tokens, but the stream has {tokens}."
        )
    mean_D = sum_D / tokens
    covariance_DD = square_DD / tokens - np.outer(mean_D, mean_D)
    value_D, vector_DD = np.diag(covariance_DD), np.eye(len(mean_D))
    if kind == "whiten":
        value_D, vector_DD = (part[..., ::-1] for part in np.linalg.eigh(covariance_DD))
    if value_D.max() <= 0:
        raise ValueError(f"{kind} needs activations that differ; their covariance is zero.")
    value_D = np.maximum(value_D, _LEAST_VARIANCE * value_D.max())
    matrix_DD = vector_DD.T / np.sqrt(value_D)[:, None]
    return Norm(kind, mean_D=first_D + mean_D, matrix_DD=matrix_DD)


def colouring(norm: Norm) -> Array:
    """The inverse [D, D] of the matrix W of an affine kind. Its rows are orthogonal, so it is the transpose
    divided by their squared norms."""
    return norm.matrix_DD.T / (norm.matrix_DD**2).sum(1)


def forward(norm: Norm, x_BD: Float[Array, "B D"]) -> tuple[Array, Callable[[Any], Any]]:
    """Normalised inputs [B, D], and the function that maps a normalised reconstruction [B, D] back to raw
    targets. It takes numpy arrays and, also under a trace, JAX arrays."""
    back = functools.partial(undo, norm)
    if norm.kind == "none":
        return x_BD, back
    if norm.kind == "token_layernorm":
        mean_B1 = x_BD.mean(axis=-1, keepdims=True)
        deviation_B1 = x_BD.std(axis=-1, keepdims=True) + 1e-5
        return (x_BD - mean_B1) / deviation_B1, lambda y_BD: y_BD * deviation_B1 + mean_B1
    if norm.kind == "token_unit":
        norm_B1 = (x_BD * x_BD).sum(axis=-1, keepdims=True) ** 0.5
        return x_BD / (norm_B1 + (norm_B1 == 0)), lambda y_BD: y_BD * norm_B1
    if norm.kind in AFFINE_KINDS:
        return (x_BD - norm.mean_D) @ norm.matrix_DD.T, back
    return x_BD * _columns(norm.scale_in, x_BD), back


def undo(norm: Norm, y_BD: Float[Array, "... D"]) -> Array:
    """A normalised reconstruction [B, D] as a raw target; unchanged under a per-token kind, whose inverse
    needs the inputs (see `forward`)."""
    if norm.kind == "none" or norm.kind in TOKEN_KINDS:
        return y_BD
    if norm.kind in AFFINE_KINDS:
        return y_BD @ colouring(norm).T + norm.mean_D
    return y_BD / _columns(norm.scale_out, y_BD)


def _columns(scale: Array, x_BD: Array) -> Array:
    """The scale of every column, or one scale for all."""
    scale = scale.astype(x_BD.dtype)
    return scale.repeat(x_BD.shape[-1] // len(scale)) if scale.ndim else scale


def apply(norm: Norm, batch: Batch) -> Batch:
    """The normalised batch, with normalised gradients; where y is x it stays the same array.

    Raises ValueError for a per-token kind on a batch whose targets are not its inputs.
    """
    x_BD, _ = forward(norm, batch.x_BD)
    if batch.g_BD is not None:
        batch = batch._replace(g_BD=batch.g_BD * norm.scale_gradient)
    if batch.y_BD is batch.x_BD:
        return batch._replace(x_BD=x_BD, y_BD=x_BD)
    check_kind(norm.kind, transcoder=True)
    return batch._replace(x_BD=x_BD, y_BD=batch.y_BD * _columns(norm.scale_out, batch.y_BD))
