"""The llama family: a decoder as a pure function of a dict of parameters, with named taps.

    x = E[token];  each block:  x += Attention(norm(x));  x += MLP(norm(x));  logits = norm(x) U
    norm(x) = g x / sqrt(mean(x^2) + eps),   MLP(x) = (silu(x W_gate) * (x W_up)) W_down

with rotary positions, and query heads that share key/value heads in groups.

Source: Touvron et al. 2023 (arXiv:2302.13971), section 2.2; grouped queries of Ainslie et al. 2023
(arXiv:2305.13245); rotary embedding of Su et al. 2021 (arXiv:2104.09864), eq. 34, in the form that
pairs dimension i with i + w/2 (as Hugging Face does), not 2i with 2i + 1 (as GGUF files do).
Differs: no key/value cache, no attention mask but the causal one, no biases, no rope scaling.

Parameters are a nested dict whose leaf names end in their axis letters (`dictlearn.types`). Inside
attention heads are split, and more letters serve: h a head, w its width, g a key/value head, r a
query head of its group, x query heads and positions of a group in one axis.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

Params: TypeAlias = Mapping[str, Any]
Edit: TypeAlias = Callable[[jax.Array, jax.Array], jax.Array]
"""(activation [B, T, width of the tap], mask_BT) -> an activation of the same shape."""

_ATTENTION_TAPS = ("attn_in", "attn_z", "attn_out", "resid_mid")
_BLOCK_TAPS = (*_ATTENTION_TAPS, "mlp_in", "mlp_act", "mlp_out", "resid")


@dataclass(frozen=True)
class Spec:
    """The hyperparameters of a llama, all static. `tied`: the unembedding is `embed_VD` too.

    Raises ValueError for heads that do not divide into groups, and for an odd head width."""

    n_layers: int
    d_model: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    d_mlp: int
    vocab: int
    rope_base: float = 10000.0
    norm_eps: float = 1e-5
    tied: bool = True

    def __post_init__(self):
        if self.n_heads % self.n_kv_heads:
            raise ValueError(f"{self.n_heads=} is not a multiple of {self.n_kv_heads=}.")
        if self.head_dim % 2:
            raise ValueError(f"{self.head_dim=} is odd; rotary positions pair its dimensions.")


def block_names() -> tuple[str, ...]:
    """The leaves of one block's parameters."""
    attention = ("attn_norm_D", "W_q_DH", "W_k_DG", "W_v_DG", "W_o_HD")
    return (*attention, "mlp_norm_D", "W_gate_DM", "W_up_DM", "W_down_MD")


def outer_names(spec: Spec) -> tuple[str, ...]:
    """The leaves of the parameters outside the blocks."""
    return ("embed_VD", "norm_D") if spec.tied else ("embed_VD", "norm_D", "unembed_DV")


def shape_of(spec: Spec, leaf: str) -> tuple[int, ...]:
    """The shape of a parameter, read off the axis letters that its name ends in."""
    sizes = {
        "D": spec.d_model,
        "H": spec.n_heads * spec.head_dim,
        "G": spec.n_kv_heads * spec.head_dim,
        "M": spec.d_mlp,
        "V": spec.vocab,
    }
    return tuple(sizes[letter] for letter in leaf.rsplit("_", 1)[1])


def build(spec: Spec, leaf: Callable[[str, int | None], Any]) -> dict[str, Any]:
    """A tree of parameters: `leaf(name, layer)` for each, layer None outside the blocks."""
    params: dict[str, Any] = {name: leaf(name, None) for name in outer_names(spec)}
    for layer in range(spec.n_layers):
        params[f"block_{layer}"] = {name: leaf(name, layer) for name in block_names()}
    return params


def random_params(spec: Spec, key: jax.Array) -> dict[str, Any]:
    """Fresh float32 parameters: norms one, matrices normal with standard deviation d_model^-1/2,
    those that write to the residual stream divided by sqrt(2 n_layers) more (GPT-2's rule)."""
    keys = iter(jax.random.split(key, len(outer_names(spec)) + spec.n_layers * len(block_names())))

    def leaf(name: str, layer: int | None) -> jax.Array:
        fresh, shape = next(keys), shape_of(spec, name)
        if len(shape) == 1:
            return jnp.ones(shape)
        writes = name in ("W_o_HD", "W_down_MD")
        scale = spec.d_model**-0.5 / (math.sqrt(2 * spec.n_layers) if writes else 1)
        return scale * jax.random.normal(fresh, shape)

    return build(spec, leaf)


def tap_names(spec: Spec) -> list[str]:
    """Every tap, in the order in which the forward pass comes to it."""
    blocks = [f"{tap}.{layer}" for layer in range(spec.n_layers) for tap in _BLOCK_TAPS]
    return ["embed", *blocks, "final"]


def check_taps(spec: Spec, names: Iterable[str]) -> None:
    """Raises ValueError, listing the taps there are, if any of `names` is not one."""
    unknown = sorted(set(names) - set(tap_names(spec)))
    if unknown:
        known = ", ".join(f"{tap}.0..{spec.n_layers - 1}" for tap in _BLOCK_TAPS)
        raise ValueError(
            f"Unknown tap {', '.join(map(repr, unknown))}; known: embed, {known}, final."
        )


def _norm(spec: Spec, gain_D: jax.Array, x_BTD: jax.Array) -> jax.Array:
    """RMS norm in float32, whatever the dtype of the activations, which the result has again."""
    wide_BTD = x_BTD.astype(jnp.float32)
    rms_BT1 = jnp.sqrt(jnp.mean(wide_BTD**2, axis=-1, keepdims=True) + spec.norm_eps)
    return (gain_D.astype(jnp.float32) * (wide_BTD / rms_BT1)).astype(x_BTD.dtype)


def _rotate(spec: Spec, x_BThw: jax.Array) -> jax.Array:
    """Rotary positions: the pair (i, i + w/2) turns by position * rope_base^(-2i/w), h a head."""
    half = spec.head_dim // 2
    # Angles grow with the position: float64, so that late positions keep their accuracy.
    angle_Tw = np.outer(np.arange(x_BThw.shape[1]), spec.rope_base ** (-np.arange(half) / half))
    cos_T1w = jnp.asarray(np.cos(angle_Tw), jnp.float32)[:, None]
    sin_T1w = jnp.asarray(np.sin(angle_Tw), jnp.float32)[:, None]
    a_BThw, b_BThw = jnp.split(x_BThw, 2, axis=-1)
    turned = (a_BThw * cos_T1w - b_BThw * sin_T1w, b_BThw * cos_T1w + a_BThw * sin_T1w)
    return jnp.concatenate(turned, axis=-1).astype(x_BThw.dtype)


def _attend(spec: Spec, q_BTH: jax.Array, k_BTG: jax.Array, v_BTG: jax.Array) -> jax.Array:
    """Causal attention, z_BTH; dense in T, its scores and softmax in float32.

    The query heads of a group become more rows of one matrix product with their shared keys: on a
    CPU three times as fast at T = 256 as one product a query head."""
    n_groups, width = spec.n_kv_heads, spec.head_dim
    (n_sequences, length, _), n_rows = q_BTH.shape, spec.n_heads // spec.n_kv_heads
    q_BThw = _rotate(spec, q_BTH.reshape(n_sequences, length, spec.n_heads, width))
    k_BTgw = _rotate(spec, k_BTG.reshape(n_sequences, length, n_groups, width))
    v_BTgw = v_BTG.reshape(n_sequences, length, n_groups, width)
    q_BTgrw = q_BThw.reshape(n_sequences, length, n_groups, n_rows, width)
    rows = (n_sequences, n_groups, n_rows * length)
    q_Bgxw = q_BTgrw.transpose(0, 2, 3, 1, 4).reshape(*rows, width)
    scores_BgxT = jnp.einsum("bgxw,btgw->bgxt", q_Bgxw, k_BTgw, preferred_element_type=jnp.float32)
    causal_xT = jnp.tile(jnp.tri(length, dtype=bool), (n_rows, 1))
    scores_BgxT = jnp.where(causal_xT, scores_BgxT * width**-0.5, -jnp.inf)
    weights_BgxT = jax.nn.softmax(scores_BgxT, axis=-1).astype(v_BTG.dtype)
    z_Bgxw = jnp.einsum("bgxt,btgw->bgxw", weights_BgxT, v_BTgw)
    z_Bgrtw = z_Bgxw.reshape(n_sequences, n_groups, n_rows, length, width)
    return z_Bgrtw.transpose(0, 3, 1, 2, 4).reshape(q_BTH.shape)


def _block(spec: Spec, block: Params, layer: int, x_BTD: jax.Array, tap: Callable) -> jax.Array:
    attn_in_BTD = tap(f"attn_in.{layer}", _norm(spec, block["attn_norm_D"], x_BTD))
    q_BTH, k_BTG, v_BTG = (attn_in_BTD @ block[name] for name in ("W_q_DH", "W_k_DG", "W_v_DG"))
    z_BTH = tap(f"attn_z.{layer}", _attend(spec, q_BTH, k_BTG, v_BTG))
    mid_BTD = tap(f"resid_mid.{layer}", x_BTD + tap(f"attn_out.{layer}", z_BTH @ block["W_o_HD"]))
    mlp_in_BTD = tap(f"mlp_in.{layer}", _norm(spec, block["mlp_norm_D"], mid_BTD))
    gate_BTM = jax.nn.silu(mlp_in_BTD @ block["W_gate_DM"])
    act_BTM = tap(f"mlp_act.{layer}", gate_BTM * (mlp_in_BTD @ block["W_up_DM"]))
    return tap(f"resid.{layer}", mid_BTD + tap(f"mlp_out.{layer}", act_BTM @ block["W_down_MD"]))


def _tapper(edits: Mapping[str, Edit], mask_BT: jax.Array, taps: dict[str, jax.Array]) -> Callable:
    """(name, activation) -> the activation, edited where an edit has that name, noted in `taps`."""

    def tap(name: str, activation: jax.Array) -> jax.Array:
        taps[name] = activation
        if name in edits:
            edited = edits[name](activation, mask_BT)
            if edited.shape != activation.shape:
                raise ValueError(f"Edit at {name!r}: {activation.shape} became {edited.shape}.")
            taps[name] = edited.astype(activation.dtype)
        return taps[name]

    return tap


def forward(
    spec: Spec,
    params: Params,
    tokens_BT: Int[Array | np.ndarray, "B T"],
    edits: Mapping[str, Edit] | None = None,
    mask_BT: Bool[Array | np.ndarray, "B T"] | None = None,
) -> tuple[Float[Array, "B T V"], dict[str, Array]]:
    """The logits, float32, and every tap's activation, in the dtype of the parameters.

    Taps, all [B, T, D] but where a width is given: `embed`; for each layer L `attn_in.L` (after its
    norm), `attn_z.L` [B, T, H] (the heads' outputs, side by side), `attn_out.L`, `resid_mid.L`,
    `mlp_in.L` (after its norm), `mlp_act.L` [B, T, M], `mlp_out.L`, `resid.L` (the residual stream
    after the block); and `final` (after the last norm).

    `edits` maps taps to functions `(activation, mask_BT) -> activation`; what follows, and the tap
    as returned, is the edited activation. `mask_BT` (default all True) is only handed to the edits:
    it says which tokens are data. Gradients flow through edits.

    The loop over layers is unrolled: a jitted caller that uses only a tap pays for nothing after
    it. Without jit all of it is computed, and every tap kept. Raises ValueError for an unknown tap,
    and for an edit that changes the shape."""
    edits = edits or {}
    check_taps(spec, edits)
    mask_BT = jnp.ones(tokens_BT.shape, bool) if mask_BT is None else jnp.asarray(mask_BT)
    taps = {}
    tap = _tapper(edits, mask_BT, taps)
    x_BTD = tap("embed", params["embed_VD"][tokens_BT])
    for layer in range(spec.n_layers):
        x_BTD = _block(spec, params[f"block_{layer}"], layer, x_BTD, tap)
    final_BTD = tap("final", _norm(spec, params["norm_D"], x_BTD))
    unembed_DV = params["embed_VD"].T if spec.tied else params["unembed_DV"]
    return jnp.matmul(final_BTD, unembed_DV, preferred_element_type=jnp.float32), taps
