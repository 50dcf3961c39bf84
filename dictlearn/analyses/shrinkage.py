"""Shrinkage: by how much the codes of each latent are too small for its own part of the target.

    s_i - 1 = sum_t f_ti <e_t, d_i> / sum_t f_ti^2 |d_i|^2             e = y - yhat

s_i is the factor that makes the squared error least, with the codes of the other latents as they are. A
positive value says that the encoder gives too little, which an L1 penalty causes; zero is unbiased.

Source: Rajamanoharan et al. 2024 (arXiv:2404.16014) for the measure over all latents at once,
`relative_reconstruction_bias` of the meter `reconstruction`.
"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from dictlearn import normalise
from dictlearn.analyses._blocks import Blocks, blocks
from dictlearn.analyses._result import Result, Table
from dictlearn.analyses._subject import Subject, dense_codes, exactly
from dictlearn.runs.atoms import atoms
from dictlearn.runs.trained import Trained

SHOWN = 8
"""Latents that are listed, those of the largest shrinkage."""


def shrinkage(subjects: Sequence[Subject], *, n_tokens: int = 16_384, fewest: int = 8) -> Result:
    """The shrinkage of the latents of every dictionary of a run.

    Args:
        subjects: one run.
        n_tokens: the largest number of held-out tokens.
        fewest: the number of tokens on which a latent must fire to be counted.

    Returns:
        A Result with `rows`, one for each dictionary: `together`, of all latents with one factor; the mean and
        quantiles over latents; and the latents that shrink most.

    Raises:
        ValueError: for a run that holds out less than one block of tokens.
    """
    (subject,) = exactly(1, subjects, "shrinkage")
    rows = blocks(subject, n_tokens, 0, ())
    if rows.n < 1:
        raise ValueError(f"{n_tokens=} are less than one block; raise it, or hold out more.")
    found = [_row(one, rows, fewest) for one in sorted(subject.trained, key=lambda one: one.name)]
    columns = [key for key in found[0] if key != "most"]
    table = Table("Shrinkage of latents", columns, [[row[key] for key in columns] for row in found])
    return Result({"rows": found}, [table])


def _row(one: Trained, rows: Blocks, fewest: int) -> dict[str, Any]:
    atoms_FD = atoms(one).astype(np.float64)
    square_F, n = (atoms_FD**2).sum(1), len(atoms_FD)
    missing_F, whole_F, count_F = np.zeros(n), np.zeros(n), np.zeros(n)
    for block in map(rows.read, range(rows.n)):
        on_B = block.mask_B
        code_BF = dense_codes(one, block.x_BD)[on_B].astype(np.float64)
        error_BD = _error(one, block.x_BD, block.y_BD)[on_B]
        missing_F += (code_BF * (error_BD @ atoms_FD.T)).sum(0)
        whole_F += (code_BF**2).sum(0) * square_F
        count_F += (code_BF != 0).sum(0)
    known_F = (count_F >= fewest) & (whole_F > 0)
    share_F = np.where(known_F, missing_F / np.where(whole_F > 0, whole_F, 1), np.nan)
    order = np.argsort(-np.nan_to_num(share_F, nan=-np.inf), kind="stable")[:SHOWN]
    together = missing_F.sum() / whole_F.sum() if whole_F.any() else np.nan
    row = {"dictionary": one.name, "latents": int(known_F.sum()), "together": together}
    known = share_F[known_F]
    row["mean"] = known.mean() if len(known) else np.nan
    for q in (0.05, 0.5, 0.95):
        row[f"{100 * q:.0f} %"] = np.quantile(known, q) if len(known) else np.nan
    most = [{"latent": int(i), "shrinkage": share_F[i]} for i in order if known_F[i]]
    return {**row, "most": most}


def _error(one: Trained, x_BD: np.ndarray, y_BD: np.ndarray) -> np.ndarray:
    """The error in the space of the atoms: that of the raw activations but under a per-token normalisation."""
    if one.norm.kind in normalise.TOKEN_KINDS:
        x_n_BD = np.asarray(normalise.forward(one.norm, x_BD)[0], np.float64)
        return x_n_BD - np.asarray(one.decode(one.encode(jnp.asarray(x_BD))))
    return y_BD - np.asarray(one.reconstruct(jnp.asarray(x_BD)), np.float64)
