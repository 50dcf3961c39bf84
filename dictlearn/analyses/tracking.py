"""SAE-Track: latents tracked over a series of dictionaries, one for each checkpoint of a model's training.

    drift_i(t)     = cos(d_i(t), d_i(T))                                  T: the last dictionary
    formation_i(t) = mean_{u != v in U_i} s(x_u^t, x_v^t) - mean_{u != v random} s(x_u^t, x_v^t)

U_i are the tokens on which latent i is largest in the last dictionary. Formation is how similar these tokens
already are at checkpoint t. The similarity is of their activations (s is the cosine) or of their codes (s is
the cosine, or either Jaccard index).

Source: Xu et al. 2024 (arXiv:2412.17626), SAE-Track: 25 top tokens. UNSURE: the paper's normalisation of its
progress measure; here it is the plain difference, 0 for tokens as similar as random ones.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from dictlearn.analyses._result import Result, Table
from dictlearn.analyses._subject import Subject, dense_codes
from dictlearn.ops.lengths import explained_variance

TOP = 25
MEASURES = ("cosine", "jaccard", "weighted_jaccard")
Rows = Float[np.ndarray, "F D"]


def tracking(subjects: Sequence[Subject], *, top: int = TOP, n_tokens: int = 2048) -> Result:
    """Drift and formation at every subject of a series.

    Both are medians over the latents that fire on at least `top` tokens in the last dictionary.

    Args:
        subjects: runs with one dictionary each, in the order of training, whose streams read the same text.
        top: the number of tokens of a latent on which formation is measured.
        n_tokens: the largest number of tokens to read.

    Returns:
        A Result with `latents`, their number, and `series`, a row for each subject.

    Raises:
        ValueError: for no subjects, several dictionaries in one, and no latent that fires so often.
    """
    rows, atoms, inputs, codes = [], [], [], []
    for subject in subjects:
        x_BD, dictionary = subject.sample(n_tokens), subject.only
        code_BF, y_BD = (
            dense_codes(dictionary, x_BD),
            np.asarray(dictionary.reconstruct(jnp.asarray(x_BD))),
        )
        row = {"name": subject.name, "explained_variance": explained_variance(x_BD, y_BD)}
        rows.append(row | {"dead_fraction": (code_BF == 0).all(0).mean()})
        atoms.append(np.asarray(dictionary.variables["params"]["W_dec_FD"]))
        inputs.append(x_BD)
        codes.append(code_BF)
    turned_TF = drift(atoms)
    often_F = (codes[-1] > 0).sum(0) >= top
    if not often_F.any():
        raise ValueError(
            f"no latent of {rows[-1]['name']} fires on {top=} of {len(codes[-1])} tokens."
        )
    top_FU = top_tokens(codes[-1], top)[often_F]
    formed = lambda of, by: np.median(formation(of, top_FU, np.random.default_rng(0), by))
    for row, turned_F, x_BD, code_BF in zip(rows, turned_TF, inputs, codes, strict=True):
        row |= {"drift": np.median(turned_F[often_F]), "formation": formed(x_BD, "cosine")}
        row |= {"formation_codes": formed(code_BF, "weighted_jaccard")}
    columns = [key.replace("_", " ") for key in rows[0]]
    table = Table("Latents over the series", columns, [tuple(row.values()) for row in rows])
    return Result({"latents": int(often_F.sum()), "series": rows}, [table])


def drift(series: Sequence[Rows]) -> Float[np.ndarray, "T F"]:
    """The cosine of each dictionary's atoms with the last dictionary's, latent by latent.

    Args:
        series: the atoms of each dictionary.

    Returns:
        The cosines; 0 for an atom of zeros.

    Raises:
        ValueError: for an empty series, or dictionaries of different shapes.
    """
    if not series or len({rows.shape for rows in series}) > 1:
        shapes = [rows.shape for rows in series]
        raise ValueError(f"drift needs dictionaries of one shape, and there are {shapes}.")
    unit = [_unit(np.asarray(rows, np.float64)) for rows in series]
    return np.stack([(rows * unit[-1]).sum(1) for rows in unit])


def top_tokens(codes_BF: Float[np.ndarray, "B F"], n: int = TOP) -> Int[np.ndarray, "F n"]:
    """The tokens on which each latent is largest.

    Args:
        codes_BF: the codes.
        n: the number of tokens for each latent.

    Returns:
        Their indices, the largest activation first.

    Raises:
        ValueError: for more tokens than rows.
    """
    if n > len(codes_BF):
        raise ValueError(f"{n=} exceeds the {len(codes_BF)} tokens there are.")
    return np.argsort(-codes_BF, axis=0, kind="stable")[:n].T


def formation(
    rows_BD: Float[np.ndarray, "B D"],
    tokens_FU: Int[np.ndarray, "F U"],
    random: np.random.Generator,
    measure: str = "cosine",
) -> Float[np.ndarray, " F"]:
    """How much more similar the rows of each latent's tokens are than the rows of as many random tokens.

    Args:
        rows_BD: activations or codes at one checkpoint.
        tokens_FU: the tokens of each latent.
        random: the generator of the 64 draws of random tokens.
        measure: the similarity of two rows.

    Returns:
        The differences.

    Raises:
        ValueError: for an unknown measure, and for fewer than two tokens per latent.
    """
    if measure not in MEASURES:
        raise ValueError(f"{measure=} must be one of {', '.join(MEASURES)}.")
    if tokens_FU.shape[1] < 2:
        raise ValueError(f"{tokens_FU.shape[1]} token(s) a latent make no pair.")
    alike = {"cosine": _cosine, "jaccard": _jaccard, "weighted_jaccard": _weighted_jaccard}[measure]
    mean = lambda tokens_U: alike(rows_BD[tokens_U].astype(np.float64))
    draws = [random.integers(len(rows_BD), size=tokens_FU.shape[1]) for _ in range(64)]
    return np.array([mean(tokens_U) for tokens_U in tokens_FU]) - np.mean([mean(d) for d in draws])


def _cosine(rows_UD) -> float:
    return _off_diagonal(_unit(rows_UD) @ _unit(rows_UD).T)


def _jaccard(rows_UD) -> float:
    on_UD = (rows_UD != 0).astype(np.float64)
    both_UU, size_U = on_UD @ on_UD.T, on_UD.sum(1)
    either_UU = size_U[:, None] + size_U - both_UU
    return _off_diagonal(both_UU / np.maximum(either_UU, 1))


def _weighted_jaccard(rows_UD) -> float:
    """sum min / sum max, of non-negative codes."""
    least_UU = np.stack([np.minimum(row_D, rows_UD).sum(1) for row_D in rows_UD])
    most_UU = np.stack([np.maximum(row_D, rows_UD).sum(1) for row_D in rows_UD])
    return _off_diagonal(least_UU / np.where(most_UU > 0, most_UU, 1))


def _off_diagonal(pairs_UU) -> float:
    n = len(pairs_UU)
    return float((pairs_UU.sum() - np.trace(pairs_UU)) / (n * (n - 1)))


def _unit(rows_FD):
    norm_F1 = np.linalg.norm(rows_FD, axis=1, keepdims=True)
    return rows_FD / np.where(norm_F1 > 0, norm_F1, 1)
