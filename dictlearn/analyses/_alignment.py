"""Similarity of two representations of the same tokens, for any axes: the baselines of ITDA's keys.

    cka        |X^T Y|_F^2 / (|X^T X|_F |Y^T Y|_F)                      X, Y centred
    svcca      mean canonical correlation of the directions of X and of Y that hold `KEPT` of their variance
    relative   share of tokens whose nearest anchor, by cosine, is the same in both
    jaccard    |A n B| / |A u B| of two sets of keys

Each of the first three is `compare(prepare(X), prepare(Y))`, so that a matrix over layers prepares each layer
once. All are 1 for a rotation of the same activations. SVCCA needs many more tokens than dimensions.
CKA and SVCCA are NaN if all rows are equal.

Source: Kornblith et al. 2019 (linear CKA, equation 5; the matching score); Raghu et al. 2017 (SVCCA);
Moschella et al. 2022 (relative representations), in the form that Leask et al. 2025, section 5, give in words,
"assigned to their nearest neighbor in a set of anchor points" (UNSURE how they score it; here the share of
tokens that agree); Leask et al. 2025, equations 8 (Jaccard) and 9 (the score).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

KEPT = 0.99
ANCHORS = 256


class Measure(NamedTuple):
    """prepare: from activations [B, D] to the input of `compare`, which takes two."""

    prepare: Callable[[np.ndarray], Any]
    compare: Callable[[Any, Any], float]

    def __call__(self, x_BD: Float[np.ndarray, "B D"], y_BE: Float[np.ndarray, "B E"]) -> float:
        """The similarity of two representations; row i of both is the same token."""
        return self.compare(self.prepare(x_BD), self.prepare(y_BE))


def _scaled(x_BD: np.ndarray) -> np.ndarray:
    x_BD = _centred(x_BD)
    return x_BD / np.sqrt(np.linalg.norm(x_BD.T @ x_BD) or np.nan)


def _basis(x_BD: np.ndarray) -> np.ndarray:
    """Orthonormal directions over tokens, [B, R]: the leading principal components, scaled to unit length."""
    x_BD = _centred(x_BD)
    if not x_BD.any():
        return np.full((len(x_BD), 1), np.nan)
    square_D, direction_DD = np.linalg.eigh(x_BD.T @ x_BD)
    square_D, direction_DD = square_D[::-1], direction_DD[:, ::-1]
    held_D = np.cumsum(square_D) / np.sum(square_D)
    kept = slice(int(np.searchsorted(held_D, KEPT)) + 1)
    return x_BD @ (direction_DD[:, kept] / np.sqrt(square_D[kept]))


def _correlation(u_BR: np.ndarray, v_BR: np.ndarray) -> float:
    overlap_RR = u_BR.T @ v_BR
    if np.isnan(overlap_RR).any():
        return float("nan")
    return float(np.linalg.svd(overlap_RR, compute_uv=False).mean())


def _nearest_anchor(x_BD: np.ndarray) -> np.ndarray:
    """The nearest anchor of each other token. Every n-th token is an anchor, at most ANCHORS of them."""
    unit_BD = x_BD / np.maximum(np.linalg.norm(x_BD, axis=1, keepdims=True), 1e-12)
    anchor_B = np.arange(len(x_BD)) % -(-len(x_BD) // ANCHORS) == 0
    return (unit_BD[~anchor_B] @ unit_BD[anchor_B].T).argmax(1)


def _centred(x_BD: np.ndarray) -> np.ndarray:
    """Centred rows in float64, which holds fourth powers of any activations; equal rows become exactly zero."""
    moved_BD = x_BD.astype(np.float64) - x_BD[0]
    return moved_BD - moved_BD.mean(0)


cka = Measure(_scaled, lambda x_BD, y_BD: float(np.sum((x_BD.T @ y_BD) ** 2)))
svcca = Measure(_basis, _correlation)
relative = Measure(_nearest_anchor, lambda x_B, y_B: float(np.mean(x_B == y_B)))

MEASURES = {"cka": cka, "svcca": svcca, "relative": relative}


def jaccard(a: set, b: set) -> float:
    """The Jaccard index of two sets; 0 if both are empty."""
    return len(a & b) / max(1, len(a | b))


def matching_score(similarity_IJ: Float[np.ndarray, "I J"]) -> float:
    """The share of layers, of both models, whose most similar layer in the other model has the same number.

    Ties go to the first. Differs: a model is not compared with itself, which always scores 1.
    """
    forth_I, back_J = similarity_IJ.argmax(1), similarity_IJ.argmax(0)
    right = [found == np.arange(len(found)) for found in (forth_I, back_J)]
    return float(np.concatenate(right).mean())
