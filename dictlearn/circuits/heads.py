"""Heads at `attn_z.L`: a latent's shares by head, its attribution to source tokens, and heads that are ablated.

    r_ih       = |W_dec,i^h| / sum_g |W_dec,i^g|                      share of head h in latent i
    DFA_i[t,s] = sum_h A^h[t,s] <v_s^h, W_enc,i^h>                    z_i[t] = sum_s DFA_i[t,s] + b
    through    = <W_j W_V^h, W_enc,i^h>                               atom j of the residual stream into i

z_t is the concatenation of the heads' outputs before W_O, which is linear in the values once the patterns A
are given. So the attribution to source tokens (DFA) is exact; b = b_enc,i - <b_dec, W_enc,i> belongs to no
token. `through` depends on weights alone, for each head: it leaves out the pattern and the division of the
norm.

Source: Kissane et al. 2024 (arXiv:2406.17759), sections 3 and 4. Any dictionary can be used; its weights must
read raw activations (`Trained.folded()`). Queries and keys are not attributed, as in the paper.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dictlearn.lm import LM
from dictlearn.lm.decoder import read_heads
from dictlearn.lm.edits import Edit
from dictlearn.ops import sources

Rows = Float[Array, "F H"] | Float[np.ndarray, "F H"]


def head_shares(W_dec_FH: Rows, n_heads: int) -> Float[np.ndarray, "F h"]:
    """The share r of each head in each latent.

    Args:
        W_dec_FH: the decoder.
        n_heads: the number of heads.

    Returns:
        Shares that sum to 1, or to 0 for a row of zeros.
    """
    return sources.shares(W_dec_FH, n_heads)


def top_latents(share_Fh: Float[np.ndarray, "F h"], n: int = 10) -> Int[np.ndarray, "h n"]:
    """The latents with the largest share in each head.

    Args:
        share_Fh: the shares.
        n: the number of latents.

    Returns:
        Their indices, the largest share first.
    """
    return np.argsort(-share_Fh, axis=0, kind="stable")[:n].T


def by_source(
    lm: LM, layer: int, in_BTD: Float[Array, "B T D"], row_H: Float[Array, " H"]
) -> Float[Array, "B h T S"]:
    """Direct feature attribution (DFA) of one latent by head, from the tap `attn_in.L`.

    Args:
        lm: the language model.
        layer: the number of the layer.
        in_BTD: the activation at `attn_in.L`.
        row_H: the latent's row of the encoder.

    Returns:
        DFA by head, destination token and source token. Its sum over heads and sources is the latent's
        pre-activation without b.
    """
    pattern_BhTS, v_BShw = read_heads(lm.spec, lm.params, layer, in_BTD)
    row_hw = row_H.reshape(lm.spec.n_heads, -1)
    value_BhS = jnp.einsum("bshw,hw->bhs", v_BShw, row_hw)
    return pattern_BhTS * value_BhS[:, :, None, :]


def through(
    lm: LM, layer: int, atoms_FD: Float[Array, "F D"], row_H: Float[Array, " H"]
) -> Float[Array, "F h"]:
    """The effect of atoms of the residual stream before the layer on a latent's pre-activation, by head.

    Args:
        lm: the language model.
        layer: the number of the layer.
        atoms_FD: the atoms.
        row_H: the latent's row of the encoder.

    Returns:
        The effect of one unit of each atom at an attended token, if the pattern and the division of the norm
        were 1.
    """
    block, spec = lm.params[f"block_{layer}"], lm.spec
    gained_FD = atoms_FD * block["attn_norm_D"]
    if spec.norm == "layer":
        gained_FD = (atoms_FD - atoms_FD.mean(1, keepdims=True)) * block["attn_norm_D"]
    value_Fgw = (gained_FD @ block["W_v_DG"]).reshape(len(atoms_FD), spec.n_kv_heads, -1)
    value_Fhw = jnp.repeat(value_Fgw, spec.n_heads // spec.n_kv_heads, axis=1)
    return jnp.einsum("fhw,hw->fh", value_Fhw, row_H.reshape(spec.n_heads, -1))


def only(kept_h: Bool[Array, " h"] | Bool[np.ndarray, " h"], instead: Array | np.ndarray) -> Edit:
    """The edit that ablates the heads that are not kept.

    Args:
        kept_h: which heads of the layer are kept.
        instead: the outputs of the others: broadcasts to `[B, T, H]`.

    Returns:
        The edit, for a tap `attn_z.L`.
    """

    def edit(z_BTH, mask_BT, taps):
        kept_H = jnp.repeat(jnp.asarray(kept_h), z_BTH.shape[2] // len(kept_h))
        return jnp.where(mask_BT[..., None] & ~kept_H, jnp.asarray(instead, z_BTH.dtype), z_BTH)

    return edit
