"""Plausibility: whether atoms are near the data, near the directions of known classes, and tell them apart.

    ood               1 - mean_i max_j cos(d_i, x_j)                       x_j: activations
    plausibility      mean_c max_i cos(v_c, d_i)                           v_c: the weights of class c
    identifiability   mean_c max_{i, t} share of rows with [z_i > t] = [class is c]
    stable_rank       |D|_F^2 / |D|_2^2       effective_rank   exp of the entropy of the singular values
    coherence         the largest |cosine| of two atoms

Atoms d_i have unit length. A row is a text, or a row of an array; z_i is the largest code on its tokens. Half
of the rows choose latent and threshold, the rest is measured; `by_chance` is the share of the commoner side.

Source: Fel et al. 2025 (arXiv:2502.12892), archetypal SAEs.

Differs: the paper has the weights of a classifier that was trained; here they are those of least squares on
the labels, unless a file is given. Its synthetic collages are not packaged. UNSURE how it joins the tokens of a
row.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dictlearn.analyses._labelled import Labelled, labelled, mean, tasks
from dictlearn.analyses._linear import Moments
from dictlearn.analyses._result import Result, Table
from dictlearn.analyses._subject import Subject, dense_codes, exactly
from dictlearn.ops.cosine import nearest
from dictlearn.runs.atoms import atoms
from dictlearn.runs.trained import Trained

NEEDS = ("labels",)
_BLOCK = 1024
"""Latents whose thresholds are searched at once."""


def plausibility(
    subjects: Sequence[Subject],
    *,
    classes: str = "",
    n_tokens: int = 4096,
    texts: str = "",
    n_texts: int = 1024,
    length: int = 48,
    labels: str = "",
    key: str = "class",
) -> Result:
    """The plausibility and the identifiability of the atoms of every dictionary of a run.

    Args:
        subjects: one run on an array with labels, or on a language model's activations.
        classes: a `.npy` of class weights [C, D]; empty for least squares on the labels.
        n_tokens: the largest number of activations that atoms are compared with.
        texts, n_texts, length, labels, key: as in `probe_loss`.

    Returns:
        A Result with `rows`, one for each dictionary.

    Raises:
        ValueError: for class weights of another width, and labels that make no task.
    """
    (subject,) = exactly(1, subjects, "plausibility")
    given = labelled(subject, texts, n_texts, length, labels, key)
    of, x_BD = tasks(given.label_N), given.x_NTD[given.mask_NT]
    class_CD = np.load(classes) if classes else _weights(given, of)
    if class_CD.ndim != 2 or class_CD.shape[1] != x_BD.shape[1]:
        raise ValueError(f"{classes} is {class_CD.shape}; rows of {x_BD.shape[1]} are needed.")
    x_BD = x_BD[np.random.default_rng(0).permutation(len(x_BD))[:n_tokens]]
    chosen = sorted(subject.trained, key=lambda one: one.name)
    rows = [_row(one, given, of, class_CD.astype("f"), x_BD) for one in chosen]
    columns = [name.replace("_", " ") for name in rows[0]]
    table = Table("Atoms, data and classes", columns, [[*row.values()] for row in rows])
    return Result({"rows": rows}, [table])


def _weights(given: Labelled, of: dict[str, np.ndarray]) -> np.ndarray:
    """The weights of each class in a linear least squares fit of the labels by mean activations."""
    mean_ND = mean(given.x_NTD, given.mask_NT)
    (own := Moments()).add(mean_ND, np.stack([*of.values()], 1))
    return own.affine(1e-3)[0].T


def _row(one: Trained, given: Labelled, of, class_CD, x_BD) -> dict[str, Any]:
    atoms_FD = atoms(one)
    size_F = np.linalg.norm(atoms_FD, axis=1)
    unit_FD = atoms_FD[size_F > 0] / size_F[size_F > 0, None]
    singular = np.linalg.svd(unit_FD, compute_uv=False)
    share = singular[singular > 0] / singular.sum()
    both = [identifiability(_largest(one, given), is_N) for is_N in of.values()]
    return {
        "dictionary": one.name,
        "ood": 1 - float(nearest(unit_FD, x_BD)[0].mean()),
        "plausibility": float(nearest(class_CD, unit_FD)[0].mean()),
        "identifiability": float(np.mean([found for found, _ in both])),
        "by_chance": float(np.mean([chance for _, chance in both])),
        "stable_rank": float((singular**2).sum() / singular[0] ** 2),
        "effective_rank": float(np.exp(-(share * np.log(share)).sum())),
        "coherence": _coherence(unit_FD),
    }


def _largest(one: Trained, given: Labelled) -> np.ndarray:
    """The largest code of each latent on the tokens of each row, `[N, F]`; 0 where none counts."""
    n, length, width = given.x_NTD.shape
    code_BF = dense_codes(one, given.x_NTD.reshape(-1, width))
    masked = np.where(given.mask_NT.reshape(-1, 1), code_BF, 0)
    return masked.reshape(n, length, -1).max(1)


def identifiability(z_NF: np.ndarray, is_N: np.ndarray) -> tuple[float, float]:
    """The accuracy of the best latent above its best threshold, and of the commoner side.

    Args:
        z_NF: the codes of the rows. Even rows choose the latent and the threshold, odd ones are measured.
        is_N: which rows are of the class.

    Returns:
        (accuracy, accuracy by chance).
    """
    starts = range(0, z_NF.shape[1], _BLOCK)
    blocks = [_thresholds(z_NF[::2, start : start + _BLOCK], is_N[::2]) for start in starts]
    right_F, at_F = map(np.concatenate, zip(*blocks, strict=True))
    latent, measured_N = int(right_F.argmax()), is_N[1::2]
    right = np.mean((z_NF[1::2, latent] > at_F[latent]) == measured_N)
    return float(right), float(max(measured_N.mean(), 1 - measured_N.mean()))


def _thresholds(z_NF: np.ndarray, is_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The accuracy of the best threshold of each latent, and that threshold, one of its values or below all."""
    order_NF = np.argsort(-z_NF, axis=0, kind="stable")
    sorted_NF = np.take_along_axis(z_NF, order_NF, 0)
    # Above threshold number n are the n largest values; equal ones may not be parted.
    right_NF = np.cumsum(np.where(is_N[order_NF], 1, -1), 0)
    right_NF = np.concatenate([np.zeros((1, z_NF.shape[1])), right_NF])
    at_NF = np.concatenate([sorted_NF, np.full((1, z_NF.shape[1]), -np.inf)])
    right_NF[1:-1][sorted_NF[:-1] == sorted_NF[1:]] = -np.inf
    place_F, every = right_NF.argmax(0), np.arange(z_NF.shape[1])
    return (right_NF[place_F, every] + (~is_N).sum()) / len(is_N), at_NF[place_F, every]


def _coherence(unit_FD: np.ndarray) -> float:
    largest = 0.0
    for start in range(0, len(unit_FD), _BLOCK):
        cosine = np.abs(unit_FD[start : start + _BLOCK] @ unit_FD.T)
        cosine[np.arange(len(cosine)), start + np.arange(len(cosine))] = 0
        largest = max(largest, float(cosine.max()))
    return largest
