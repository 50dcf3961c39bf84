"""The atoms and the encoder rows of a trained dictionary, one for each latent."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from dictlearn import normalise
from dictlearn.runs.trained import Trained
from dictlearn.types import Codes

_BATCH = 1024


def atoms(dictionary: Trained) -> np.ndarray:
    """What each latent adds to the raw reconstruction at an activation of 1, `[F, D]`.

    It is the difference between the decoded unit code and the decoded empty code, so it holds for every
    dictionary whose decoder is linear in the codes, whatever its parameters are called.
    """
    n, found = dictionary.module.n_latents, []
    for start in range(0, n, _BATCH):
        idx_BK = jnp.minimum(jnp.arange(start, start + _BATCH), n - 1)[:, None]
        decoded = [
            np.asarray(dictionary.decode(Codes(jnp.full(idx_BK.shape, val), idx_BK)))
            for val in (1.0, 0.0)
        ]
        found.append(decoded[0] - decoded[1])
    return np.concatenate(found)[:n]


def atoms_of(dictionary: Trained, latents: Sequence[int]) -> np.ndarray:
    """The same of some latents, `[n, D]`."""
    idx_BK = jnp.asarray(latents)[:, None]
    one, none = (dictionary.decode(Codes(jnp.full(idx_BK.shape, v), idx_BK)) for v in (1.0, 0.0))
    return np.asarray(one - none)


def encoder_rows(dictionary: Trained) -> np.ndarray | None:
    """The direction that each latent reads, `[F, D]`; None for a dictionary without a linear encoder."""
    rows_FD = dictionary.variables["params"].get("W_enc_FD")
    return None if rows_FD is None else np.asarray(jax.device_get(rows_FD), np.float32)


def raw_encoder_rows(dictionary: Trained) -> np.ndarray | None:
    """The direction of raw activations that each latent reads, in units of its codes, `[F, D]`; None without a
    linear encoder, and under a per-token normalisation."""
    rows_FD = encoder_rows(dictionary)
    if rows_FD is None or dictionary.norm.kind in normalise.TOKEN_KINDS:
        return None
    # The other kinds are affine, and what is pulled back through them is the row before them.
    scale = lambda x_FD: jnp.asarray(normalise.forward(dictionary.norm, x_FD)[0])
    return np.asarray(jax.vjp(scale, jnp.zeros(rows_FD.shape))[1](rows_FD)[0])


def aligned(atom_D: np.ndarray, n: int = 3) -> list[tuple[int, float, float]]:
    """The largest dimensions of an atom: (dimension, value, share of the L1 norm).

    Example:
        >>> aligned(np.array([0.0, -3.0, 1.0]), n=1)
        [(1, -3.0, 0.75)]
    """
    order = np.argsort(-np.abs(atom_D), kind="stable")[:n]
    total = float(np.abs(atom_D).sum()) or 1.0
    return [(int(d), float(atom_D[d]), float(abs(atom_D[d])) / total) for d in order]
