"""Directions of the residual stream, pulled back through the linear parts of a block.

    norm      n -> g n / size, centred for a LayerNorm          size: the denominator, 1 where it is left out
    heads     n -> W_O^h n for each head                        through the second norm of attention, if any
    values    n^h -> W_V^h n^h                                  at the tap `attn_in`

Each gives the direction, and what the biases on the way add to the product.
"""

import numpy as np

from dictlearn.lm.spec import Params, Spec


def norm(
    spec: Spec, leaves: Params, name: str, row_XD: np.ndarray, size: np.ndarray | float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """(directions before the norm `name`, what its bias adds to each)."""
    pulled_XD = row_XD * wide(leaves[f"{name}_D"]) / size
    if spec.norm != "layer":
        return pulled_XD, np.zeros(row_XD.shape[:-1], pulled_XD.dtype)
    centred_XD = pulled_XD - pulled_XD.mean(-1, keepdims=True)
    return centred_XD, row_XD @ wide(leaves[f"{name}_bias_D"])


def heads(
    spec: Spec, block: Params, row_XD: np.ndarray, size: np.ndarray | float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """(directions `[X, h, w]` of the heads' outputs, what the bias adds to each)."""
    bias_X = np.zeros(row_XD.shape[:-1], row_XD.dtype)
    if spec.post_norms:
        row_XD, bias_X = norm(spec, block, "attn_post_norm", row_XD, size)
    if "b_o_D" in block:
        bias_X = bias_X + row_XD @ wide(block["b_o_D"])
    row_XH = row_XD @ wide(block["W_o_HD"]).T
    return row_XH.reshape(*row_XD.shape[:-1], spec.n_heads, spec.head_dim), bias_X


def values(spec: Spec, block: Params, row_Xhw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(directions `[X, h, D]` of what attention reads, what the bias adds to each, `[X, h]`)."""
    each = spec.n_heads // spec.n_kv_heads
    split = lambda leaf: wide(leaf).reshape(*leaf.shape[:-1], spec.n_kv_heads, spec.head_dim)
    W_Dhw = np.repeat(split(block["W_v_DG"]), each, axis=-2)
    rows_XhD = np.einsum("...hw,dhw->...hd", row_Xhw, W_Dhw)
    if "b_v_G" not in block:
        return rows_XhD, np.zeros(rows_XhD.shape[:-1], rows_XhD.dtype)
    b_hw = np.repeat(split(block["b_v_G"]), each, axis=-2)
    return rows_XhD, np.einsum("...hw,hw->...h", row_Xhw, b_hw)


def wide(leaf) -> np.ndarray:
    """An array of at least float32."""
    found = np.asarray(leaf)
    return found.astype(np.promote_types(found.dtype, np.float32))
