"""Attention-output dictionaries (`attn_z.L`): a latent's shares by head, and its attribution to source tokens.

    r_ih       = |W_dec,i^h| / sum_g |W_dec,i^g|                      share of head h in latent i
    DFA_i[t,s] = sum_h A^h[t,s] <v_s^h, W_enc,i^h>                    z_i[t] = sum_s DFA_i[t,s] + b
    through    = <W_j W_V^h, W_enc,i^h>                               atom j of the residual stream into i

z_t is the heads' outputs side by side, before W_O, and linear in the values once the patterns A are given:
the attribution to source tokens (DFA) is exact, and b = b_enc,i - <b_dec, W_enc,i> is what no token brings.
`through` is of weights alone, head by head: it leaves out the pattern and the division by the norm.

Source: Kissane et al. 2024 (arXiv:2406.17759), sections 3 and 4. A dictionary of any kind will do; its
weights must read raw activations (`Trained.folded()`). Queries and keys are not attributed, as in the paper.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dictlearn.lm import LM
from dictlearn.lm.decoder import read_heads
from dictlearn.ops import sources

Rows = Float[Array, "F H"] | Float[np.ndarray, "F H"]


def head_shares(W_dec_FH: Rows, n_heads: int) -> Float[np.ndarray, "F h"]:
    """r, the heads' shares in each latent; they sum to 1, or to 0 for a row of zeros."""
    return sources.shares(W_dec_FH, n_heads)


def top_latents(share_Fh: Float[np.ndarray, "F h"], n: int = 10) -> Int[np.ndarray, "h n"]:
    """The `n` latents of largest share in each head, the largest first."""
    return np.argsort(-share_Fh, axis=0, kind="stable")[:n].T


def by_source(
    lm: LM, layer: int, in_BTD: Float[Array, "B T D"], row_H: Float[Array, " H"]
) -> Float[Array, "B h T S"]:
    """DFA of one latent head by head, from the tap `attn_in.L`: its row of the encoder dotted with what each
    source token (last axis) gives each destination (the one before). Their sum over heads and sources is
    the latent's pre-activation without b."""
    pattern_BhTS, v_BShw = read_heads(lm.spec, lm.params, layer, in_BTD)
    row_hw = row_H.reshape(lm.spec.n_heads, -1)
    value_BhS = jnp.einsum("bshw,hw->bhs", v_BShw, row_hw)
    return pattern_BhTS * value_BhS[:, :, None, :]


def through(
    lm: LM, layer: int, atoms_FD: Float[Array, "F D"], row_H: Float[Array, " H"]
) -> Float[Array, "F h"]:
    """What one unit of each atom of the residual stream before the layer, at an attended token, adds to the
    latent's pre-activation by each head, were its pattern 1 and the norm's division 1."""
    block, spec = lm.params[f"block_{layer}"], lm.spec
    gained_FD = atoms_FD * block["attn_norm_D"]
    if spec.norm == "layer":
        gained_FD = (atoms_FD - atoms_FD.mean(1, keepdims=True)) * block["attn_norm_D"]
    value_Fgw = (gained_FD @ block["W_v_DG"]).reshape(len(atoms_FD), spec.n_kv_heads, -1)
    value_Fhw = jnp.repeat(value_Fgw, spec.n_heads // spec.n_kv_heads, axis=1)
    return jnp.einsum("fhw,hw->fh", value_Fhw, row_H.reshape(spec.n_heads, -1))
