"""Identifiability: whether the decomposition X = H V is unique; its conditions, measured on a sample.

    H1  few features per token    row_sparsity  = max_b #{i: h_bi != 0}
    H2  each with enough weight   least_weight  = min_i mean over tokens with i of h_bi / |h_b|
    H3  rarely active together    cooccurrence  = max_{i != j} #(i, j both on) / #(i on)    << n^-1/2
    V1  far from parallel         incoherence   = max_{i != j} |cos(v_i, v_j)|              small

Source: the decomposable data of Chen et al. 2025 (arXiv:2506.14002), section 5, read at second hand. UNSURE:
the wording of H2; the mean share is ours. Under all four, any other decomposition has the same features
(theorem 5.3).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from dictlearn.analyses._result import Result, Table
from dictlearn.analyses._subject import Subject, dense_codes


class Conditions(NamedTuple):
    """The measured conditions. bound: n^-1/2, which `cooccurrence` should stay well below."""

    row_sparsity: int
    least_weight: float
    cooccurrence: float
    incoherence: float
    bound: float


def decomposable(subjects: Sequence[Subject], *, n_tokens: int = 4096) -> Result:
    """The four conditions for the codes and atoms of every dictionary, over the latents that fire.

    Args:
        subjects: runs whose dictionaries have a decoder `W_dec_FD`.
        n_tokens: the largest number of tokens that are encoded.

    Returns:
        A Result with `dictionaries`, a row for each.
    """
    rows = []
    for subject in subjects:
        x_BD = subject.sample(n_tokens)
        for one in subject.trained:
            code_BF = dense_codes(one, x_BD)
            fires_F = (code_BF != 0).any(0)
            atoms_FD = np.asarray(one.variables["params"]["W_dec_FD"])
            found = conditions(code_BF[:, fires_F], atoms_FD[fires_F])
            rows.append({"name": one.name, "latents": int(fires_F.sum()), **found._asdict()})
    columns = [key.replace("_", " ") for key in rows[0]]
    table = Table(
        "Conditions of a unique decomposition", columns, [[*row.values()] for row in rows]
    )
    return Result({"dictionaries": rows}, [table])


def conditions(
    codes_BN: Float[np.ndarray, "B N"], atoms_ND: Float[np.ndarray, "N D"]
) -> Conditions:
    """The four conditions on a sample of codes and atoms. Raises ValueError if a feature is never on in it."""
    on_BN = (codes_BN != 0).astype(np.float64)
    count_N = on_BN.sum(0)
    if not count_N.all():
        raise ValueError(
            f"{int((count_N == 0).sum())} features are never on; take a larger sample."
        )
    weight_BN = np.abs(codes_BN) / np.maximum(
        np.linalg.norm(codes_BN, axis=1, keepdims=True), 1e-30
    )
    together_NN = on_BN.T @ on_BN / count_N[:, None]
    unit_ND = atoms_ND / np.linalg.norm(atoms_ND, axis=1, keepdims=True)
    alike_NN = np.abs(unit_ND @ unit_ND.T)
    off_NN = ~np.eye(len(atoms_ND), dtype=bool)
    return Conditions(
        int(on_BN.sum(1).max()),
        float((weight_BN.sum(0) / count_N).min()),
        float(together_NN[off_NN].max()),
        float(alike_NN[off_NN].max()),
        len(atoms_ND) ** -0.5,
    )
