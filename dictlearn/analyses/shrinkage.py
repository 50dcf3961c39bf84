"""Shrinkage: by how much the codes of each latent are too small for its own part of the target.

    s_i - 1 = sum_t f_ti <e_t, d_i> / sum_t f_ti^2 |d_i|^2             e = y - yhat

s_i is the factor that makes the squared error least, with the codes of the other latents as they are. A
positive value says that the encoder gives too little, which an L1 penalty causes; zero is unbiased.

Source: Rajamanoharan et al. 2024 (arXiv:2404.16014) for the measure over all latents at once,
`relative_reconstruction_bias` of the meter `reconstruction`.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dictlearn import normalise
from dictlearn.analyses._blocks import Blocks, blocks
from dictlearn.analyses._result import Result, Table
from dictlearn.analyses._subject import Subject, exactly
from dictlearn.ops.firing import dense
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
    atoms_FD = atoms(one)
    square_F, totals = (atoms_FD.astype(np.float64) ** 2).sum(1), np.zeros((3, len(atoms_FD)))
    for block in map(rows.read, range(rows.n)):
        sums = _sums(one.module, one.norm, one.variables, atoms_FD, *block[:3])
        totals += np.asarray(sums, np.float64)
    missing_F, whole_F, count_F = totals[0], totals[1] * square_F, totals[2]
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


@functools.partial(jax.jit, static_argnums=0)
def _sums(module, norm, variables, atoms_FD, x_BD, y_BD, mask_B):
    """sum f <e, d>, sum f^2 and the tokens with f, `[F]` each. The error is in the space of the atoms: that of
    the raw activations but under a per-token normalisation."""
    x_n_BD, undo = normalise.forward(norm, x_BD)
    yhat_BD, codes = module.apply(variables, jnp.asarray(x_n_BD), method="reconstruct")
    own = norm.kind in normalise.TOKEN_KINDS
    error_BD = x_n_BD - yhat_BD if own else y_BD - undo(yhat_BD)
    code_BF = jnp.where(mask_B[:, None], dense(codes, module.n_latents), 0)
    return (code_BF * (error_BD @ atoms_FD.T)).sum(0), (code_BF**2).sum(0), (code_BF != 0).sum(0)
