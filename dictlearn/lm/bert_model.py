"""BERT: an encoder as a pure function of a dict of parameters, with named taps.

    x = norm(E[token] + P[position] + S)
    each block:  x = norm(x + Attention(x));  x = norm(x + MLP(x))
    norm(x) = g (x - mean(x)) / sqrt(var(x) + eps) + b,    MLP(x) = gelu(x W_in + b_in) W_out + b_out

Attention is bidirectional: every token attends to every token that is not padding.

Source: Devlin et al. 2019 (arXiv:1810.04805), the encoder of Vaswani et al. 2017 (arXiv:1706.03762)
with the norm after the sum.
Differs: one segment only (S is the vector of segment A), no pooler, no heads, no dropout.

Leaf names end in their axis letters (`dictlearn.types`); in attention h is a head and w its width.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dictlearn.lm.edits import Edit
from dictlearn.lm.taps import check_taps, tapper
from dictlearn.lm.vocabulary import check


@dataclass(frozen=True)
class BertSpec:
    """The hyperparameters of a BERT, all static.

    Args:
        n_layers: the number of layers.
        d_model: the width of the model.
        n_heads: the number of heads; divides `d_model`, else ValueError.
        d_mlp: the width of the MLP.
        vocab: the number of tokens in the vocabulary.
        n_positions: the number of tokens of the longest sequence.
        norm_eps: the epsilon of the layer norms.

    Example:
        >>> BertSpec(n_layers=2, d_model=4, n_heads=2, d_mlp=8, vocab=5, n_positions=8).sizes()["D"]
        4
    """

    n_layers: int
    d_model: int
    n_heads: int
    d_mlp: int
    vocab: int
    n_positions: int
    norm_eps: float = 1e-12

    def __post_init__(self):
        if self.d_model % self.n_heads:
            raise ValueError(f"{self.d_model=} is not a multiple of {self.n_heads=}.")

    def sizes(self) -> dict[str, int]:
        sizes = {"D": self.d_model, "H": self.d_model, "M": self.d_mlp, "V": self.vocab}
        return sizes | {"T": self.n_positions}

    def block_names(self) -> tuple[str, ...]:
        norms = (f"{one}_norm_{end}" for one in ("attn", "mlp") for end in ("D", "bias_D"))
        heads = (name for one in "qkv" for name in (f"W_{one}_DH", f"b_{one}_H"))
        return (*heads, "W_o_HD", "b_o_D", "W_in_DM", "b_in_M", "W_out_MD", "b_out_D", *norms)

    def outer_names(self) -> tuple[str, ...]:
        return ("embed_VD", "position_TD", "segment_D", "embed_norm_D", "embed_norm_bias_D")


def _norm(spec: BertSpec, gain_D: jax.Array, bias_D: jax.Array, x_BTD: jax.Array) -> jax.Array:
    """Layer norm, computed in float32; the result has the dtype of x."""
    wide_BTD = x_BTD.astype(jnp.float32)
    centred_BTD = wide_BTD - jnp.mean(wide_BTD, axis=-1, keepdims=True)
    std_BT1 = jnp.sqrt(jnp.mean(centred_BTD**2, axis=-1, keepdims=True) + spec.norm_eps)
    return (gain_D * (centred_BTD / std_BT1) + bias_D).astype(x_BTD.dtype)


def _attend(
    spec: BertSpec, q_BTH: jax.Array, k_BTH: jax.Array, v_BTH: jax.Array, mask_BT: jax.Array
) -> jax.Array:
    """Attention: z_BTH; scores and softmax in float32. A sequence of padding alone attends uniformly."""
    width = spec.d_model // spec.n_heads
    q, k, v = (x.reshape(*x.shape[:2], spec.n_heads, width) for x in (q_BTH, k_BTH, v_BTH))
    scores_BhTT = jnp.einsum("bqhw,bkhw->bhqk", q, k, preferred_element_type=jnp.float32)
    lowest = jnp.finfo(jnp.float32).min
    scores_BhTT = jnp.where(mask_BT[:, None, None], scores_BhTT / math.sqrt(width), lowest)
    weights_BhTT = jax.nn.softmax(scores_BhTT, axis=-1).astype(v_BTH.dtype)
    return jnp.einsum("bhqk,bkhw->bqhw", weights_BhTT, v).reshape(q_BTH.shape)


def _block(
    spec: BertSpec,
    p: Mapping[str, Any],
    layer: int,
    x_BTD: jax.Array,
    mask_BT: jax.Array,
    tap: Callable,
) -> jax.Array:
    attn_in_BTD = tap(f"attn_in.{layer}", x_BTD)
    q, k, v = (attn_in_BTD @ p[f"W_{one}_DH"] + p[f"b_{one}_H"] for one in "qkv")
    z_BTH = tap(f"attn_z.{layer}", _attend(spec, q, k, v, mask_BT))
    attn_out_BTD = tap(f"attn_out.{layer}", z_BTH @ p["W_o_HD"] + p["b_o_D"])
    mid_BTD = _norm(spec, p["attn_norm_D"], p["attn_norm_bias_D"], x_BTD + attn_out_BTD)
    mid_BTD = tap(f"resid_mid.{layer}", mid_BTD)
    mlp_in_BTD = tap(f"mlp_in.{layer}", mid_BTD)
    act_BTM = jax.nn.gelu(mlp_in_BTD @ p["W_in_DM"] + p["b_in_M"], approximate=False)
    act_BTM = tap(f"mlp_act.{layer}", act_BTM)
    mlp_out_BTD = tap(f"mlp_out.{layer}", act_BTM @ p["W_out_MD"] + p["b_out_D"])
    after_BTD = _norm(spec, p["mlp_norm_D"], p["mlp_norm_bias_D"], mid_BTD + mlp_out_BTD)
    return tap(f"resid.{layer}", after_BTD)


def forward(
    spec: BertSpec,
    params: Mapping[str, Any],
    tokens_BT: Int[Array | np.ndarray, "B T"],
    edits: Mapping[str, Edit] | None = None,
    mask_BT: Bool[Array | np.ndarray, "B T"] | None = None,
) -> tuple[Float[Array, "B T D"], dict[str, Array]]:
    """The output of the last block and the activation of every tap, in the dtype of the parameters.

    Taps are `[B, T, D]` unless another width is given: `embed` (after its norm); for each layer L
    `attn_in.L` (the input of attention: `embed` or `resid.(L-1)`), `attn_z.L` `[B, T, H]` (the outputs of
    the heads, concatenated), `attn_out.L` (with its bias, before the sum), `resid_mid.L` (after the sum and
    its norm), `mlp_in.L` (the input of the MLP: `resid_mid.L`), `mlp_act.L` `[B, T, M]`, `mlp_out.L` (before
    the sum), `resid.L` (after the sum and its norm); and `final`, the output. The norms come after the sums,
    so this model has no unnormalised residual stream. An edit at `attn_in.L` or `mlp_in.L` changes the input
    of the layer, and not the residual stream.

    Args:
        spec: the hyperparameters.
        params: the parameters.
        tokens_BT: the tokens.
        edits: functions `(activation, mask_BT, taps so far) -> activation`, by tap.
        mask_BT: False at padding, which no token attends to and no edit changes; None for no padding.

    Returns:
        (output, taps).

    Raises:
        ValueError: for an unknown tap, an edit that changes the shape, more tokens than positions and, outside
            of jit, a token without a row in the embedding.

    Example:
        >>> from dictlearn.lm.spec import build, shape_of
        >>> spec = BertSpec(n_layers=1, d_model=4, n_heads=1, d_mlp=8, vocab=5, n_positions=8)
        >>> params = build(spec, lambda leaf, layer: jnp.ones(shape_of(spec, leaf)))
        >>> forward(spec, params, jnp.array([[1, 2, 3]]))[1]["mlp_act.0"].shape
        (1, 3, 8)
    """
    edits, taps = edits or {}, {}
    check_taps(spec, edits)
    check(tokens_BT, spec.vocab, "tokens_BT")
    length = tokens_BT.shape[1]
    if length > spec.n_positions:
        raise ValueError(f"{length} tokens a sequence; the model has {spec.n_positions} positions.")
    mask_BT = jnp.ones(tokens_BT.shape, bool) if mask_BT is None else jnp.asarray(mask_BT)
    tap = tapper(edits, mask_BT, taps)
    x_BTD = params["embed_VD"][tokens_BT] + params["position_TD"][:length] + params["segment_D"]
    x_BTD = _norm(spec, params["embed_norm_D"], params["embed_norm_bias_D"], x_BTD)
    x_BTD = tap("embed", x_BTD)
    for layer in range(spec.n_layers):
        x_BTD = _block(spec, params[f"block_{layer}"], layer, x_BTD, mask_BT, tap)
    return tap("final", x_BTD), taps
