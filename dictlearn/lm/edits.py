"""Edits: functions at a tap that change the activations of unmasked tokens.

    edit(x_BTD, mask_BT, taps) = where(mask_BT, new(x_BTD), x_BTD)

`taps` are the taps computed so far; the tap of the edit itself has its activation before the edit. Each
function here returns an edit for `forward(..., edits={tap: edit}, mask_BT=mask_BT)`. D is the width of the
tap. Masked tokens keep their activation to the bit. New values are computed in the wider of the two dtypes
and cast to the dtype of the activation. Gradients flow to the activation and to every array given. When it
is applied, an edit raises ValueError for an array that does not fit the tap.
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
    """The value, if it broadcasts to `shape` without extending it; else ValueError."""
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
    """Replaces the activation by a value.

    Args:
        value: broadcasts to `[B, T, D]`.

    Returns:
        An edit.

    Example:
        >>> x_BTD, mask_BT = jnp.ones((1, 2, 1)), jnp.array([[False, True]])
        >>> replace(5.0)(x_BTD, mask_BT, {}).ravel()
        Array([1., 5.], dtype=float32)
    """
    return _edit(lambda x: jnp.broadcast_to(_fit(value, x.shape, "A value"), x.shape))


def add(vector: Value) -> Edit:
    """Adds a vector to the activation: steering.

    Args:
        vector: broadcasts to `[B, T, D]`; one vector `[D]` for steering.

    Returns:
        An edit.

    Example:
        >>> x_BTD, mask_BT = jnp.ones((1, 2, 1)), jnp.array([[False, True]])
        >>> add(jnp.array([3.0]))(x_BTD, mask_BT, {}).ravel()
        Array([1., 4.], dtype=float32)
    """
    return _edit(lambda x: x + _fit(vector, x.shape, "A vector"))


def zero() -> Edit:
    """Replaces the activation by zero: zero ablation.

    Returns:
        An edit.

    Example:
        >>> x_BTD, mask_BT = jnp.ones((1, 2, 1)), jnp.array([[False, True]])
        >>> zero()(x_BTD, mask_BT, {}).ravel()
        Array([1., 0.], dtype=float32)
    """
    return replace(0.0)


def mean(mean_D: Value) -> Edit:
    """Replaces the activation by its mean over a corpus: mean ablation.

    Args:
        mean_D: the mean, `[D]`.

    Returns:
        An edit.

    Example:
        >>> x_BTD, mask_BT = jnp.ones((1, 2, 1)), jnp.array([[False, True]])
        >>> mean(jnp.array([0.5]))(x_BTD, mask_BT, {}).ravel()
        Array([1. , 0.5], dtype=float32)
    """
    return _edit(lambda x: jnp.broadcast_to(_vector(mean_D, x, "A mean"), x.shape))


def patch(source_BTD: Value, positions: Sequence[int] | None = None) -> Edit:
    """Replaces the activation by the activation of the same tap in another run: activation patching.

    Args:
        source_BTD: the activation in the other run, `[B, T, D]`.
        positions: the positions to patch, negative from the end; None for all.

    Returns:
        An edit. It raises ValueError for a position outside 0..T - 1.

    Example:
        >>> x_BTD, mask_BT = jnp.zeros((1, 3, 1)), jnp.ones((1, 3), bool)
        >>> patch(jnp.ones((1, 3, 1)), positions=[-1])(x_BTD, mask_BT, {}).ravel()
        Array([0., 0., 1.], dtype=float32)
    """

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
    """Moves the activation along a direction until its coordinate there is `value`.

        x + (value - <x, u>) u,    u = direction / |direction|

    Args:
        direction: a vector `[D]` of any length but zero, or the index of a unit.
        value: the coordinate, in units of the activation, `[B, T]` or broadcast; 0 projects the direction out.

    Returns:
        An edit, computed in float32 or wider.

    Example:
        >>> clamp(0, 5.0)(jnp.ones((1, 1, 2)), jnp.ones((1, 1), bool), {}).ravel()
        Array([5., 1.], dtype=float32)
    """

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
    """Replaces the activation by a function of another tap, such as a transcoder in place of an MLP.

    Args:
        tap: the tap to read, as its own edit left it; for a transcoder at `mlp_out.3`, "mlp_in.3".
        function: from the activation of `tap`, `[B, T, D]`, to the new activation.

    Returns:
        An edit. It raises ValueError, naming `tap`, if the forward pass has not reached it.

    Example:
        >>> x_BTD, mask_BT = jnp.ones((1, 2, 1)), jnp.ones((1, 2), bool)
        >>> through("mlp_in.3", lambda y_BTD: 2 * y_BTD)(x_BTD, mask_BT, {"mlp_in.3": 4 * x_BTD}).ravel()
        Array([8., 8.], dtype=float32)
    """
    return lambda x, mask_BT, taps: _edit(lambda _: function(taps[tap]))(x, mask_BT, taps)


def several(*edits: Edit) -> Edit:
    """Applies several edits at one tap, in order.

    Args:
        edits: the edits.

    Returns:
        An edit.

    Example:
        >>> x_BTD, mask_BT = jnp.ones((1, 1, 1)), jnp.ones((1, 1), bool)
        >>> several(zero(), add(3.0))(x_BTD, mask_BT, {}).ravel()
        Array([3.], dtype=float32)
    """

    def edit(x_BTD: jax.Array, mask_BT: jax.Array, taps: Mapping[str, jax.Array]) -> jax.Array:
        for one in edits:
            x_BTD = one(x_BTD, mask_BT, taps)
        return x_BTD

    return edit
