"""Redrawing near-duplicates: of every two atoms closer than `cosine`, one is drawn again at random.

Source: Donhauser et al. 2024 (ICFL), on training: every 100 steps, cosine 0.9, a new atom uniform on the
sphere. Of a cluster the atom with the lowest number stays; the wrapped rule's moments of the others are
zero afterwards.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from dictlearn.ops.control_flow import any_member
from dictlearn.ops.initialise import unit_rows
from dictlearn.rules import _latents
from dictlearn.rules.normalise_atoms import unit

KIND = "wrapper"
_BLOCK = 1024


class State(NamedTuple):
    inner: optax.OptState
    step: jax.Array


def redraw(
    inner: optax.GradientTransformationExtraArgs,
    *,
    every: int = 100,
    cosine: float = 0.9,
    seed: int = 0,
) -> optax.GradientTransformationExtraArgs:
    """Wraps the rule `inner`. every: steps between two looks at all pairs.
    Raises ValueError for a variant without W_dec_FD, and for a cosine outside (0, 1)."""
    if not 0 < cosine < 1 or every < 1:
        raise ValueError(f"{cosine=} must lie between 0 and 1, and {every=} be at least 1.")

    def init(params):
        _latents.require("redraw", params, ("W_dec_FD",))
        return State(inner.init(params), jnp.zeros((), jnp.int32))

    def update(updates, state, params=None, **extra):
        assert params is not None, "this rule moves atoms, and must see them"
        updates, inner_state = inner.update(updates, state.inner, params, **extra)
        step = state.step + 1
        now = step % every == 0

        def on(updates, inner_state):
            atoms_FD = unit(params["W_dec_FD"] + updates["W_dec_FD"])
            twin_F = _twins(atoms_FD, cosine) & now
            key = jax.random.fold_in(jax.random.key(seed), step)
            rows_FD = unit_rows(key, atoms_FD.shape, atoms_FD.dtype)
            fresh = {"W_dec_FD": rows_FD}
            if "W_enc_FD" in params and params["W_enc_FD"].shape == rows_FD.shape:
                fresh["W_enc_FD"] = rows_FD
            return _latents.replace(twin_F, fresh, updates, params, inner_state)

        off = lambda updates, inner_state: (updates, inner_state)
        updates, inner_state = jax.lax.cond(any_member(now), on, off, updates, inner_state)
        return updates, State(inner_state, step)

    return optax.GradientTransformationExtraArgs(init, update)


def _twins(atoms_FD, cosine):
    """True for an atom that has one of a lower number within `cosine`; `[F, F]` is never held whole."""
    n = atoms_FD.shape[0]
    blocks = -(-n // _BLOCK)
    padded = jnp.pad(atoms_FD, ((0, blocks * _BLOCK - n), (0, 0))).reshape(blocks, _BLOCK, -1)
    column_F = jnp.arange(n)

    def one(block):
        rows_RD, start = block
        row_R = start * _BLOCK + jnp.arange(_BLOCK)
        near_RF = rows_RD @ atoms_FD.T > cosine
        return (near_RF & (column_F[None] < row_R[:, None])).any(1)

    return jax.lax.map(one, (padded, jnp.arange(blocks))).reshape(-1)[:n]
