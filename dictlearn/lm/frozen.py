"""What a forward pass can hold constant: attention patterns, denominators of norms, and outputs of MLPs.

    pattern.L                             the attention pattern, from query positions to key positions
    attn_norm.L, mlp_norm.L, norm, ...    the denominator of a norm, `[B, T, 1]`; `norm` is the last one
    mlp.L                                 what the MLP gives, before the edit of its tap

`freeze` stops their gradients and changes no value. `held` puts values of another run in their place. Without
its MLPs, a model whose patterns and denominators are constant is linear.

Source: the local replacement model of Ameisen et al. 2025, "Circuit tracing", freezes all three.
"""

from collections.abc import Callable, Collection, Mapping
from typing import TypeAlias

import jax
import jax.numpy as jnp

KINDS = ("norms", "attention", "mlps")
Keep: TypeAlias = Callable[[str, Callable[[], jax.Array]], jax.Array]
"""(name, a function that computes the value) -> the value that the forward pass uses."""

_KIND_OF = {"pattern": "attention", "mlp": "mlps"}


def free(name: str, compute: Callable[[], jax.Array]) -> jax.Array:
    """A `Keep` that holds nothing."""
    return compute()


def check(freeze: Collection[str], n_layers: int) -> None:
    """Raises ValueError for an entry that is no kind, alone or with one of the layers."""
    known = {*KINDS, *(f"{kind}.{layer}" for kind in KINDS for layer in range(n_layers))}
    if unknown := sorted(set(freeze) - known):
        raise ValueError(
            f"Unknown in freeze: {unknown}; known: {KINDS}, of all layers or of one, such as 'norms.0' to "
            f"'norms.{n_layers - 1}'."
        )


def keeper(
    freeze: Collection[str],
    held: Mapping[str, jax.Array],
    n_sequences: int,
    seen: dict[str, jax.Array] | None = None,
) -> Keep:
    """Makes the function that a forward pass calls at each value that can be held.

    Args:
        freeze: what gets no gradient: KINDS, of all layers or of one ("norms.3").
        held: values by name, for as many sequences as there are, or for one.
        n_sequences: the number of sequences.
        seen: a dict that receives every value; None for none.

    Returns:
        A `Keep`. It does not compute what is held.
    """

    def keep(name: str, compute: Callable[[], jax.Array]) -> jax.Array:
        value = _given(held[name], name, n_sequences) if name in held else compute()
        part, _, layer = name.partition(".")
        kind = _KIND_OF.get(part, "norms")
        if kind in freeze or f"{kind}.{layer}" in freeze:
            value = jax.lax.stop_gradient(value)
        if seen is not None:
            seen[name] = value
        return value

    return keep


def _given(value: jax.Array, name: str, n_sequences: int) -> jax.Array:
    if value.shape[0] not in (1, n_sequences):
        raise ValueError(
            f"{name} is held for {value.shape[0]} sequences; this pass has {n_sequences}. Hold it for one, or "
            "for each."
        )
    return jnp.broadcast_to(value, (n_sequences, *value.shape[1:]))
