"""The active codes of a dictionary on rows of activations, as a flat list of events."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from dictlearn.runs.trained import Trained


def active(
    dictionary: Trained,
    rows: Mapping[str, np.ndarray],
    tap: Sequence[str],
    row_B: np.ndarray,
    batch: int,
) -> tuple[np.ndarray, ...]:
    """(latent_E, sequence_E, position_E, val_E) of some rows; a short batch is padded with zeros, so that the
    encoder is compiled once.

    rows: the rows of each tap, with `sequence_R` and `position_R`. row_B: at most `batch` of them.
    """
    rows_BD = np.concatenate([rows[name][row_B] for name in tap], axis=1)
    x_BD = np.zeros((batch, rows_BD.shape[1]), np.float32)
    x_BD[: len(row_B)] = rows_BD
    codes = jax.device_get(dictionary.encode(jnp.asarray(x_BD)))
    val = codes.val[: len(row_B)]
    row_E, slot_E = np.nonzero(val)
    latent_E = slot_E if codes.idx_BK is None else codes.idx_BK[row_E, slot_E]
    where_E = row_B[row_E]
    found = latent_E, rows["sequence_R"][where_E], rows["position_R"][where_E]
    return *(a.astype(np.int32) for a in found), val[row_E, slot_E]
