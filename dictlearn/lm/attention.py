"""Causal attention with grouped queries, rotary positions, sliding windows and capped scores.

Source: grouped queries of Ainslie et al. 2023 (arXiv:2305.13245); rotary embedding of Su et al.
2021 (arXiv:2104.09864), eq. 34, in the form that pairs dimension i with i + w/2 (as Hugging Face
does), not 2i with 2i + 1 (as some GGUF files do); sliding windows of Mistral (arXiv:2310.06825);
capped scores of Gemma 2 (arXiv:2408.00118).
Differs: no mask except the causal one and its window; dense in T.

This file splits heads and uses more letters: h a head, w its width, g a key/value head, r a query
head of its group, x query heads and positions of a group in one axis.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from dictlearn.lm.spec import Spec


def wide(x: jax.Array) -> jax.Array:
    """Casts an array to float32, unless its dtype is wider.

    Norms, rotary positions, softmax and logits are computed in this dtype.

    Args:
        x: an array.

    Returns:
        The array in float32 or wider.
    """
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def frequencies(spec: Spec, layer: int) -> np.ndarray:
    """The angle by which each rotary pair of a head turns from one position to the next.

    Args:
        spec: the hyperparameters.
        layer: the number of the layer.

    Returns:
        The angles in radians.
    """
    width = spec.rope_width or spec.head_dim
    base, divisors = spec.rope_base, np.array(spec.rope_divisors or 1.0)
    if spec.local_rope_base is not None and layer in spec.sliding_layers:
        base, divisors = spec.local_rope_base, np.array(1.0)
    return base ** (-np.arange(width // 2) / (width // 2)) / divisors


def rotate(
    spec: Spec, layer: int, x_BThw: jax.Array, length: int, position_B: jax.Array | None = None
) -> jax.Array:
    """Turns the pair (i, i + width/2) of each head by position * frequency_i.

    Args:
        spec: the hyperparameters.
        layer: the number of the layer.
        x_BThw: queries or keys.
        length: the number of positions; each of `position_B` is below it.
        position_B: the position of each sequence's only token; None for the positions 0, 1, ... of all.

    Returns:
        The turned heads; with learned positions, `x_BThw` itself.
    """
    if spec.positions:
        return x_BThw
    width, turn_w = spec.rope_width or spec.head_dim, frequencies(spec, layer)
    # Angles grow with the position: float64, so that late positions keep their accuracy.
    angle_Tw = np.outer(np.arange(length), turn_w)
    wide_BThw = wide(x_BThw)
    turns = [jnp.asarray(f(angle_Tw), wide_BThw.dtype)[:, None] for f in (np.cos, np.sin)]
    cos, sin = turns if position_B is None else (turn[position_B][:, None] for turn in turns)
    a_BThw, b_BThw, rest_BThw = jnp.split(wide_BThw, (width // 2, width), axis=-1)
    turned = (a_BThw * cos - b_BThw * sin, b_BThw * cos + a_BThw * sin)
    return jnp.concatenate((*turned, rest_BThw), axis=-1).astype(x_BThw.dtype)


def _visible(spec: Spec, layer: int, from_X: jax.Array, length: int) -> jax.Array:
    """Which of the positions 0..length - 1 (the last axis) each position of `from_X` attends to."""
    back = from_X[..., None] - np.arange(length)
    visible = back >= 0
    if spec.window is not None and layer in spec.sliding_layers:
        visible &= back < spec.window
    return visible


def cap(x: jax.Array, bound: float | None) -> jax.Array:
    """Soft capping: bound * tanh(x / bound).

    Args:
        x: scores or logits.
        bound: the largest absolute value; None for no cap.

    Returns:
        The capped values.
    """
    return x if bound is None else bound * jnp.tanh(x / bound)


def weights(spec: Spec, layer: int, q_BThw: jax.Array, k_BTgw: jax.Array) -> jax.Array:
    """The attention pattern.

    The query heads of a group are more rows of one matrix product with the keys that they share. On a CPU
    at T = 256 this is three times as fast as one product for each query head.

    Args:
        spec: the hyperparameters.
        layer: the number of the layer.
        q_BThw: the queries.
        k_BTgw: the keys.

    Returns:
        The pattern `[B, g, x, T]`, float32. `x` is `[r, T]`, so a reshape to `[B, h, T, T]` gives the heads in
        order.
    """
    length = q_BThw.shape[1]
    q_BThw, k_BTgw = (rotate(spec, layer, x_BThw, length) for x_BThw in (q_BThw, k_BTgw))
    visible_TT = _visible(spec, layer, jnp.arange(length), length)
    return _pattern(spec, q_BThw, k_BTgw, visible_TT[None])


def _pattern(spec: Spec, q_BXhw: jax.Array, k_BTgw: jax.Array, visible: jax.Array) -> jax.Array:
    """The attention pattern of turned queries at X positions and keys at T. visible: `[1 or B, X, T]`."""
    n_groups, width = spec.n_kv_heads, spec.head_dim
    (n_sequences, length), n_rows = q_BXhw.shape[:2], spec.n_heads // spec.n_kv_heads
    q_BXgrw = q_BXhw.reshape(n_sequences, length, n_groups, n_rows, width)
    q_Bgxw = q_BXgrw.transpose(0, 2, 3, 1, 4).reshape(n_sequences, n_groups, -1, width)
    exact = jnp.promote_types(q_BXhw.dtype, jnp.float32)
    scores_BgxT = jnp.einsum("bgxw,btgw->bgxt", q_Bgxw, k_BTgw, preferred_element_type=exact)
    scale = width**-0.5 if spec.query_scale is None else spec.query_scale
    visible_xT = jnp.tile(visible, (1, n_rows, 1))[:, None]
    scores_BgxT = jnp.where(visible_xT, cap(scores_BgxT * scale, spec.attn_cap), -jnp.inf)
    return jax.nn.softmax(scores_BgxT, axis=-1)


def _mix(spec: Spec, pattern_BgxT: jax.Array, v_BTgw: jax.Array) -> jax.Array:
    """The values that the pattern weights, `[B, X, H]`."""
    z_Bgxw = jnp.einsum("bgxt,btgw->bgxw", pattern_BgxT, v_BTgw)
    n_sequences, n_groups, _, width = z_Bgxw.shape
    z_BgrXw = z_Bgxw.reshape(n_sequences, n_groups, spec.n_heads // n_groups, -1, width)
    z_BXgrw = z_BgrXw.transpose(0, 3, 1, 2, 4)
    return z_BXgrw.reshape(n_sequences, z_BXgrw.shape[1], spec.n_heads * width)


def attend(
    spec: Spec,
    layer: int,
    q_BThw: jax.Array,
    k_BTgw: jax.Array,
    v_BTgw: jax.Array,
    keep: Callable[[Callable[[], jax.Array]], jax.Array],
) -> jax.Array:
    """The outputs of the heads, concatenated. Scores and softmax are computed in float32.

    Args:
        spec: the hyperparameters.
        layer: the number of the layer.
        q_BThw: the queries.
        k_BTgw: the keys.
        v_BTgw: the values.
        keep: of (a function that computes the attention pattern), the pattern to use.

    Returns:
        z_BTH.
    """
    weights_BgxT = keep(lambda: weights(spec, layer, q_BThw, k_BTgw).astype(v_BTgw.dtype))
    return _mix(spec, weights_BgxT, v_BTgw)


def attend_kept(
    spec: Spec,
    layer: int,
    heads: tuple[jax.Array, jax.Array, jax.Array],
    position_B: jax.Array,
    kept: tuple[jax.Array, jax.Array],
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """The outputs of the heads for one token of each sequence, whose keys and values join those that are kept.

    Args:
        spec: the hyperparameters.
        layer: the number of the layer.
        heads: the queries, keys and values of the tokens, `[B, 1, heads, width]`.
        position_B: the positions of the tokens.
        kept: the turned keys and the values, `[B, T, g, w]`; only positions before `position_B` are read.

    Returns:
        (z_B1H, the keys and values that are kept then).
    """
    q_B1hw, k_B1gw, v_B1gw = heads
    length = kept[0].shape[1]
    q_B1hw, k_B1gw = (rotate(spec, layer, x, length, position_B) for x in (q_B1hw, k_B1gw))
    put = jax.vmap(lambda old, at, new: old.at[at].set(new[0]))
    k_BTgw, v_BTgw = (
        put(old, position_B, new) for old, new in zip(kept, (k_B1gw, v_B1gw), strict=True)
    )
    visible_B1T = _visible(spec, layer, position_B[:, None], length)
    weights_BgxT = _pattern(spec, q_B1hw, k_BTgw, visible_B1T).astype(v_BTgw.dtype)
    return _mix(spec, weights_BgxT, v_BTgw), (k_BTgw, v_BTgw)
