"""One decoder for the common families: a pure function of a dict of parameters, with taps.

    x = E[token];  each block:  x += Attention(norm(x));  x += MLP(norm(x));  logits = norm(x) U
    norm(x) = g x / sqrt(mean(x^2) + eps),   MLP(x) = (act(x W_gate) * (x W_up)) W_down

is Llama. The fields of `spec.Spec` are the differences of the other families, which `families` reads.

Source: Llama, Touvron et al. 2023 (arXiv:2302.13971); GPT-2, Radford et al. 2019; GPT-NeoX, Black
et al. 2022 (arXiv:2204.06745); Mistral, Jiang et al. 2023 (arXiv:2310.06825); Qwen 2 and 3
(arXiv:2407.10671, 2505.09388); Gemma 2 and 3 (arXiv:2408.00118, 2503.19786).
`step` is the pass of one more token of each sequence, with the keys and values that are kept of the others.
Differs: no dropout, no attention mask except the causal one.
"""

import functools
from collections.abc import Callable, Collection, Mapping
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dictlearn.lm.attention import attend, attend_kept, cap, rotate, weights, wide
from dictlearn.lm.edits import Edit
from dictlearn.lm.spec import Params, Spec
from dictlearn.lm.taps import check_taps, tapper
from dictlearn.lm.vocabulary import check

Kept: TypeAlias = tuple[tuple[jax.Array, jax.Array], ...]
"""The turned keys and the values of every layer, `[B, T, key/value heads, head width]`: the cache of `step`."""

_FREEZABLE = ("norms", "attention")
_ACT = {
    "silu": jax.nn.silu,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "gelu_tanh": lambda x: jax.nn.gelu(x, approximate=True),
}


def _norm(
    kind: str, eps: float, leaves: Params, name: str, letter: str, x: jax.Array, frozen: bool
) -> jax.Array:
    """The norm `name` over the last axis, computed in float32; the result has the dtype of x.

    `frozen` stops the gradient of the denominator.
    """
    centred = wide(x)
    if kind == "layer":
        centred = centred - centred.mean(axis=-1, keepdims=True)
    size = jnp.sqrt(jnp.mean(centred**2, axis=-1, keepdims=True) + eps)
    if frozen:
        size = jax.lax.stop_gradient(size)
    scaled = wide(leaves[f"{name}_{letter}"]) * (centred / size)
    if kind == "layer":
        scaled = scaled + wide(leaves[f"{name}_bias_{letter}"])
    return scaled.astype(x.dtype)


_HEADS = (("q", "DH"), ("k", "DG"), ("v", "DG"))
_UNTAPPED = lambda name, activation: activation


def _attend(spec: Spec, freeze: Collection[str], layer: int, *heads: jax.Array) -> jax.Array:
    return attend(spec, layer, *heads, frozen="attention" in freeze)


class _Block:
    """One block with its parameters and settings, so that its parts read as equations. attend: (layer, queries,
    keys, values) -> the outputs of the heads."""

    def __init__(
        self, spec: Spec, block: Params, layer: int, tap: Callable, freeze=(), attend=None
    ):
        self.spec, self.block, self.layer = spec, block, layer
        self.freeze, self.attend = freeze, attend or functools.partial(_attend, spec, freeze)
        self.tap = lambda name, activation: tap(f"{name}.{layer}", activation)

    def linear(self, x: jax.Array, name: str, letters: str) -> jax.Array:
        y = x @ self.block[f"W_{name}_{letters}"]
        bias = self.block.get(f"b_{name}_{letters[1]}")
        return y if bias is None else y + bias

    def norm(self, x_BTD: jax.Array, name: str) -> jax.Array:
        spec = self.spec
        return _norm(spec.norm, spec.norm_eps, self.block, name, "D", x_BTD, "norms" in self.freeze)

    def heads(self, x_BTD: jax.Array, name: str, letters: str) -> jax.Array:
        """Projections split into heads, [B, T, heads, width], normed where the spec norms them."""
        spec = self.spec
        x_BThw = self.linear(x_BTD, name, letters)
        x_BThw = x_BThw.reshape(*x_BTD.shape[:2], -1, spec.head_dim)
        if not spec.qk_norm or name == "v":
            return x_BThw
        frozen = "norms" in self.freeze
        return _norm("rms", spec.norm_eps, self.block, f"{name}_norm", "W", x_BThw, frozen)

    def attention(self, x_BTD: jax.Array) -> jax.Array:
        in_BTD = self.tap("attn_in", self.norm(x_BTD, "attn_norm"))
        z_BTH = self.attend(self.layer, *(self.heads(in_BTD, *one) for one in _HEADS))
        out_BTD = self.linear(self.tap("attn_z", z_BTH), "o", "HD")
        if self.spec.post_norms:
            out_BTD = self.norm(out_BTD, "attn_post_norm")
        return self.tap("attn_out", out_BTD)

    def mlp(self, x_BTD: jax.Array) -> jax.Array:
        act = _ACT[self.spec.activation]
        in_BTD = self.tap("mlp_in", self.norm(x_BTD, "mlp_norm"))
        up_BTM = self.linear(in_BTD, "up", "DM")
        gated = self.spec.gated
        act_BTM = act(self.linear(in_BTD, "gate", "DM")) * up_BTM if gated else act(up_BTM)
        out_BTD = self.linear(self.tap("mlp_act", act_BTM), "down", "MD")
        if self.spec.post_norms:
            out_BTD = self.norm(out_BTD, "mlp_post_norm")
        return self.tap("mlp_out", out_BTD)

    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        mid_BTD = self.tap("resid_mid", x_BTD + self.attention(x_BTD))
        return self.tap("resid", mid_BTD + self.mlp(x_BTD if self.spec.parallel else mid_BTD))


def read_heads(
    spec: Spec, params: Params, layer: int, in_BTD: Float[Array, "B T D"]
) -> tuple[Float[Array, "B h T T"], Float[Array, "B T h w"]]:
    """The attention patterns and the values of one layer, computed from its tap `attn_in.L`.

    Args:
        spec: the hyperparameters.
        params: the parameters.
        layer: the number of the layer.
        in_BTD: the activation at `attn_in.L`.

    Returns:
        (patterns, from the query position to the key positions; values, repeated over the heads that share
        them).
    """
    block = _Block(spec, params[f"block_{layer}"], layer, _UNTAPPED)
    q_BThw, k_BTgw, v_BTgw = (block.heads(in_BTD, *one) for one in _HEADS)
    pattern = weights(spec, layer, q_BThw, k_BTgw)
    (n_sequences, length), n_heads = in_BTD.shape[:2], spec.n_heads
    pattern_BhTT = pattern.reshape(n_sequences, n_heads, length, length)
    return pattern_BhTT, jnp.repeat(v_BTgw, n_heads // spec.n_kv_heads, axis=2)


def _embed(spec: Spec, params: Params, tokens_BT, position_B=None) -> jax.Array:
    x_BTD = params["embed_VD"][tokens_BT]
    if spec.embed_scale != 1:
        x_BTD = x_BTD * jnp.asarray(spec.embed_scale, x_BTD.dtype)
    if not spec.positions:
        return x_BTD
    if position_B is not None:
        return x_BTD + params["position_TD"][position_B][:, None]
    if (length := tokens_BT.shape[1]) > spec.positions:
        raise ValueError(
            f"{length} tokens in a sequence; the model has {spec.positions} positions."
        )
    return x_BTD + params["position_TD"][:length]


def unembed(spec: Spec, params: Params, final: jax.Array) -> jax.Array:
    """The logits, float32, of the tap `final`.

    Args:
        spec: the hyperparameters.
        params: the parameters.
        final: the activation, `[..., D]`.

    Returns:
        The logits, `[..., V]`.
    """
    unembed_DV = params["embed_VD"].T if spec.tied else params["unembed_DV"]
    exact = jnp.promote_types(final.dtype, jnp.float32)
    return cap(jnp.matmul(final, unembed_DV, preferred_element_type=exact), spec.logit_cap)


def keep(spec: Spec, params: Params, taps: Mapping[str, Array], length: int) -> Kept:
    """The keys and values of a forward pass, with room for `length` positions. A jitted caller of `forward` and
    `keep` computes them once.

    Args:
        spec: the hyperparameters.
        params: the parameters.
        taps: the taps of the forward pass.
        length: the number of positions.

    Returns:
        The keys and values of every layer, zero at positions that the pass did not have.
    """
    kept = []
    for layer in range(spec.n_layers):
        block = _Block(spec, params[f"block_{layer}"], layer, _UNTAPPED)
        in_BTD = taps[f"attn_in.{layer}"]
        k_BTgw, v_BTgw = (block.heads(in_BTD, *one) for one in _HEADS[1:])
        room = ((0, 0), (0, length - in_BTD.shape[1]), (0, 0), (0, 0))
        k_BTgw = rotate(spec, layer, k_BTgw, in_BTD.shape[1])
        kept.append((jnp.pad(k_BTgw, room), jnp.pad(v_BTgw, room)))
    return tuple(kept)


def step(
    spec: Spec,
    params: Params,
    token_B: jax.Array,
    position_B: jax.Array,
    kept: Kept,
    edits: Mapping[str, Edit],
    mask_B: jax.Array,
) -> tuple[jax.Array, Kept]:
    """The logits after one more token of each sequence.

    Args:
        spec: the hyperparameters.
        params: the parameters.
        token_B: the tokens.
        position_B: their positions.
        kept: the keys and values of the positions before them.
        edits: the edits, by tap; their activations are `[B, 1, width of the tap]`.
        mask_B: True where the edits act.

    Returns:
        (logits_BV, the keys and values of all positions so far).
    """
    kept_L = list(kept)

    def attend(layer: int, q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        z_B1H, kept_L[layer] = attend_kept(spec, layer, (q, k, v), position_B, kept_L[layer])
        return z_B1H

    tap = tapper(edits, mask_B[:, None], {})
    x_B1D = _embed(spec, params, token_B[:, None], position_B)
    final_B1D = _layers(spec, params, x_B1D, tap, (), attend)
    return unembed(spec, params, final_B1D)[:, 0], tuple(kept_L)


def _layers(spec: Spec, params: Params, x_BTD, tap: Callable, freeze, attend=None) -> jax.Array:
    """The tap `final` from the embedding."""
    x_BTD = tap("embed", x_BTD)
    for layer in range(spec.n_layers):
        x_BTD = _Block(spec, params[f"block_{layer}"], layer, tap, freeze, attend)(x_BTD)
    final_BTD = _norm(spec.norm, spec.norm_eps, params, "norm", "D", x_BTD, "norms" in freeze)
    return tap("final", final_BTD)


def forward(
    spec: Spec,
    params: Params,
    tokens_BT: Int[Array | np.ndarray, "B T"],
    edits: Mapping[str, Edit] | None = None,
    mask_BT: Bool[Array | np.ndarray, "B T"] | None = None,
    freeze: Collection[str] = (),
) -> tuple[Float[Array, "B T V"], dict[str, Array]]:
    """The logits, float32, and the activation of every tap, in the dtype of the parameters.

    Taps are `[B, T, D]` unless another width is given: `embed` (scaled, with positions); for each layer L
    `attn_in.L` (after its norm), `attn_z.L` `[B, T, H]` (the outputs of the heads, concatenated), `attn_out.L`,
    `resid_mid.L`, `mlp_in.L` (after its norm), `mlp_act.L` `[B, T, M]`, `mlp_out.L`, `resid.L` (the residual
    stream after the block); and `final` (after the last norm). `attn_out` and `mlp_out` are added to the
    residual stream; in Gemma 2 and 3 they come after the second norm. Where attention and MLP are parallel,
    `resid_mid.L` is the input of the block plus `attn_out.L`. No MLP reads it then, but `resid.L` is still
    `resid_mid.L + mlp_out.L`, so an edit of it takes effect.

    The loop over layers is unrolled: a jitted caller that uses only one tap computes nothing after it.
    Without jit everything is computed, and every tap is kept. Gradients flow through edits.

    Args:
        spec: the hyperparameters.
        params: the parameters.
        tokens_BT: the tokens.
        edits: functions `(activation, mask_BT, taps so far) -> activation`, by tap. The layers that follow
            read the edited activation, and the returned tap is the edited one.
        mask_BT: True where a token is data; only edits read it. None for all.
        freeze: what is constant in the backward pass: "norms" (the denominators of the norms), "attention"
            (the attention patterns). Values do not change. With both, a block is linear except for its MLP.

    Returns:
        (logits, taps).

    Raises:
        ValueError: for an unknown tap, an edit that changes the shape, an unknown entry of `freeze`, more
            tokens than learned positions and, outside of jit, a token without a row in the embedding.
    """
    edits = edits or {}
    check_taps(spec, edits)
    check(tokens_BT, spec.vocab, "tokens_BT")
    if unknown := sorted(set(freeze) - set(_FREEZABLE)):
        raise ValueError(f"Unknown in freeze: {unknown}; known: {_FREEZABLE}.")
    mask_BT = jnp.ones(tokens_BT.shape, bool) if mask_BT is None else jnp.asarray(mask_BT)
    taps = {}
    embed_BTD = _embed(spec, params, tokens_BT)
    final_BTD = _layers(spec, params, embed_BTD, tapper(edits, mask_BT, taps), freeze)
    return unembed(spec, params, final_BTD), taps
