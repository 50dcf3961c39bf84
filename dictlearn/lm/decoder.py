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

from dictlearn.lm import frozen
from dictlearn.lm.attention import attend_kept, cap, rotate, weights
from dictlearn.lm.block import HEADS, Block, norm
from dictlearn.lm.edits import Edit
from dictlearn.lm.spec import Params, Spec
from dictlearn.lm.taps import check_taps, tapper
from dictlearn.lm.vocabulary import check

Kept: TypeAlias = tuple[tuple[jax.Array, jax.Array], ...]
"""The turned keys and the values of every layer, `[B, T, key/value heads, head width]`: the cache of `step`."""


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
    block = Block(spec, params[f"block_{layer}"], layer)
    q_BThw, k_BTgw, v_BTgw = (block.heads(in_BTD, *one) for one in HEADS)
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
        block = Block(spec, params[f"block_{layer}"], layer)
        in_BTD = taps[f"attn_in.{layer}"]
        k_BTgw, v_BTgw = (block.heads(in_BTD, *one) for one in HEADS[1:])
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
    final_B1D = _layers(spec, params, x_B1D, tap, frozen.free, attend)
    return unembed(spec, params, final_B1D)[:, 0], tuple(kept_L)


def _layers(
    spec: Spec, params: Params, x_BTD, tap: Callable, keep: frozen.Keep, attend=None
) -> jax.Array:
    """The tap `final` from the embedding."""
    x_BTD = tap("embed", x_BTD)
    for layer in range(spec.n_layers):
        x_BTD = Block(spec, params[f"block_{layer}"], layer, tap, keep, attend)(x_BTD)
    return tap("final", norm(spec, params, "norm", "D", x_BTD, functools.partial(keep, "norm")))


def forward(
    spec: Spec,
    params: Params,
    tokens_BT: Int[Array | np.ndarray, "B T"],
    edits: Mapping[str, Edit] | None = None,
    mask_BT: Bool[Array | np.ndarray, "B T"] | None = None,
    freeze: Collection[str] = (),
    held: Mapping[str, Array] | None = None,
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
            (the attention patterns), "mlps" (their outputs), of all layers, or of one ("norms.3"). Values do
            not change. With all three, the model is linear.
        held: values that take the place of those that this pass would compute, of `constants` of another run,
            for one sequence or for each. None for none.

    Returns:
        (logits, taps).

    Raises:
        ValueError: for an unknown tap, an edit that changes the shape, an unknown entry of `freeze`, values
            held for another number of sequences, more tokens than learned positions and, outside of jit, a
            token without a row in the embedding.
    """
    frozen.check(freeze, spec.n_layers)
    keep = frozen.keeper(freeze, held or {}, len(tokens_BT))
    return _forward(spec, params, tokens_BT, edits or {}, mask_BT, keep)


def constants(
    spec: Spec,
    params: Params,
    tokens_BT: Int[Array | np.ndarray, "B T"],
    edits: Mapping[str, Edit] | None = None,
    mask_BT: Bool[Array | np.ndarray, "B T"] | None = None,
) -> tuple[Float[Array, "B T V"], dict[str, Array], dict[str, Array]]:
    """A forward pass with the values that another one can hold constant, by the names of `frozen`.

    Args:
        spec: the hyperparameters.
        params: the parameters.
        tokens_BT, edits, mask_BT: as in `forward`.

    Returns:
        (logits, taps, the values, for `held` of another pass).
    """
    seen: dict[str, Array] = {}
    keep = frozen.keeper((), {}, len(tokens_BT), seen)
    return *_forward(spec, params, tokens_BT, edits or {}, mask_BT, keep), seen


def _forward(spec: Spec, params: Params, tokens_BT, edits, mask_BT, keep: frozen.Keep):
    check_taps(spec, edits)
    check(tokens_BT, spec.vocab, "tokens_BT")
    mask_BT = jnp.ones(tokens_BT.shape, bool) if mask_BT is None else jnp.asarray(mask_BT)
    taps: dict[str, Array] = {}
    embed_BTD = _embed(spec, params, tokens_BT)
    final_BTD = _layers(spec, params, embed_BTD, tapper(edits, mask_BT, taps), keep)
    return unembed(spec, params, final_BTD), taps
