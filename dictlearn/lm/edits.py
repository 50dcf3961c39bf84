"""Edits: functions at a tap that change the activations of unmasked tokens.

    edit(x_BTD, mask_BT, taps) = where(mask_BT, new(x_BTD), x_BTD)

`taps` are those passed so far, that of the edit included, as it was before it. Each function here
returns an edit for `forward(..., edits={tap: edit}, mask_BT=mask_BT)`. D is the width of the tap,
whichever it is. Outside the mask the activation is left as it is, to the bit; what
is new is computed in the wider of the two dtypes and takes the activation's. Gradients flow to the
activation and to every array given. An edit raises ValueError, when it is applied, for an array that
does not fit the tap.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

Edit: TypeAlias = Callable[[jax.Array, jax.Array, Mapping[str, jax.Array]], jax.Array]
"""(activation [B, T, width of the tap], mask_BT, taps so far) -> an activation of the same shape. Pure."""

Value: TypeAlias = jax.Array | np.ndarray | float | int


def _edit(new: Callable[[jax.Array], jax.Array]) -> Edit:
    def edit(x_BTD: jax.Array, mask_BT: jax.Array, taps: Mapping[str, jax.Array]) -> jax.Array:
        return jnp.where(mask_BT[..., None], new(x_BTD).astype(x_BTD.dtype), x_BTD)

    return edit


def _fit(value: Value, shape: tuple[int, ...], what: str) -> jax.Array:
    """The value, once it is known to broadcast to `shape` and not beyond it."""
    value = jnp.asarray(value)
    try:
        fits = np.broadcast_shapes(value.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"{what} of shape {value.shape} does not broadcast to {shape}.")
    return value


def _vector(vector_D: Value, x_BTD: jax.Array, what: str) -> jax.Array:
    vector_D = jnp.asarray(vector_D)
    if vector_D.shape != x_BTD.shape[-1:]:
        raise ValueError(f"{what} of shape {vector_D.shape} at a tap of width {x_BTD.shape[-1]}.")
    return vector_D


def replace(value: Value) -> Edit:
    """`value` in place of the activation; it broadcasts to [B, T, D]."""
    return _edit(lambda x: jnp.broadcast_to(_fit(value, x.shape, "A value"), x.shape))


def add(vector: Value) -> Edit:
    """The activation plus `vector`, which broadcasts to [B, T, D]: steering, with a [D]."""
    return _edit(lambda x: x + _fit(vector, x.shape, "A vector"))


def zero() -> Edit:
    """Zero in place of the activation."""
    return replace(0.0)


def mean(mean_D: Value) -> Edit:
    """Mean ablation: the activation's mean over a corpus, [D], in place of the activation."""
    return _edit(lambda x: jnp.broadcast_to(_vector(mean_D, x, "A mean"), x.shape))


def patch(source_BTD: Value, positions: Sequence[int] | None = None) -> Edit:
    """The same tap's activation in another run, at `positions` (from the end where negative) or,
    without them, at all; the rest as it is. Raises ValueError for a position outside 0..T - 1."""

    def new(x_BTD: jax.Array) -> jax.Array:
        source = jnp.asarray(source_BTD)
        if source.shape != x_BTD.shape:
            raise ValueError(f"A patch of shape {source.shape} at a tap of shape {x_BTD.shape}.")
        length = x_BTD.shape[1]
        at = range(length) if positions is None else positions
        if outside := [position for position in at if not -length <= position < length]:
            raise ValueError(f"Position {outside[0]} is outside a sequence of {length} tokens.")
        chosen_T = np.zeros(length, bool)
        chosen_T[list(at)] = True
        return jnp.where(chosen_T[:, None], source, x_BTD)

    return _edit(new)


def clamp(direction: Value, value: Value) -> Edit:
    """The activation moved along a direction until its coordinate there is `value`.

        x + (value - <x, u>) u,    u = direction / |direction|

    `direction` is a [D] of any length but zero, or the index of a unit. `value` is in units of the
    activation and broadcasts to [B, T]: 0 projects the direction out. Computed in float32 or wider."""

    def new(x_BTD: jax.Array) -> jax.Array:
        target_BT = _fit(value, x_BTD.shape[:-1], "A value")
        if isinstance(direction, int):
            if not 0 <= direction < x_BTD.shape[-1]:
                raise ValueError(f"Unit {direction} at a tap of width {x_BTD.shape[-1]}.")
            return x_BTD.at[..., direction].set(target_BT.astype(x_BTD.dtype))
        direction_D = _vector(direction, x_BTD, "A direction")
        direction_D = direction_D.astype(jnp.result_type(jnp.float32, x_BTD, direction_D))
        unit_D = direction_D / jnp.linalg.norm(direction_D)
        # A sum, not a matrix product: those round their inputs to bfloat16 on some devices.
        along_BT = jnp.sum(x_BTD * unit_D, axis=-1)
        return x_BTD + (target_BT - along_BT)[..., None] * unit_D

    return _edit(new)


def through(tap: str, function: Callable[[jax.Array], jax.Array]) -> Edit:
    """`function` of what passes at `tap`, [B, T, D] -> [B, T, its width], in the place of the activation: at
    `mlp_out.3`, `through("mlp_in.3", transcoder)` puts a transcoder in the place of an MLP. It reads `tap` as
    the edits there left it. Raises ValueError, naming `tap`, where the forward pass has not come to it."""
    return lambda x, mask_BT, taps: _edit(lambda _: function(taps[tap]))(x, mask_BT, taps)


def several(*edits: Edit) -> Edit:
    """The edits one after the other, at one tap."""

    def edit(x_BTD: jax.Array, mask_BT: jax.Array, taps: Mapping[str, jax.Array]) -> jax.Array:
        for one in edits:
            x_BTD = one(x_BTD, mask_BT, taps)
        return x_BTD

    return edit
