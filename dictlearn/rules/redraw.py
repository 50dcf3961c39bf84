"""Redraws near-duplicates: of any two atoms with a larger cosine than `cosine`, one is redrawn at random.

Of a cluster, the atom with the lowest index stays. The wrapped rule's moments of the redrawn atoms become zero.

Source: Donhauser et al. 2024 (ICFL), on training: every 100 steps, cosine 0.9, a new atom uniform on the
sphere.
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
    """The rule `inner`, followed by the redrawing.

    Args:
        inner: the rule to wrap.
        every: the number of steps between two comparisons of all pairs of atoms.
        cosine: the cosine above which two atoms are near-duplicates.
        seed: the seed of the new atoms.

    Returns:
        An optax transformation.

    Raises:
        ValueError: for a cosine outside (0, 1) or an `every` below 1; at its `init`, for a variant without
            W_dec_FD.
    """
    if not 0 < cosine < 1 or every < 1:
        raise ValueError(f"{cosine=} must lie between 0 and 1, and {every=} be at least 1.")

    def init(params):
        _latents.require("redraw", params, ("W_dec_FD",))
        return State(inner.init(params), jnp.zeros((), jnp.int32))

    def update(updates, state, params=None, **extra):
        assert params is not None, "this rule moves atoms: pass params"
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
    """True for an atom with a near-duplicate of a lower index; `[F, F]` is never held whole."""
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
