"""Adam as dictionaries are trained with it: projection, clipping, Adam, schedule, unit atoms.

    g <- g - <g, d> d      g <- clip(g)      u <- -lr(t) Adam(g)      d <- (d + u) / |d + u|

Schedules and laws of the rate are in `_schedules.py`. By default it warms up linearly, stays, and decays
linearly to zero over the last `decay_fraction` of `steps`.

As a chain of `project_gradient`, `optax.clip_by_global_norm`, `optax.adam` and `normalise_atoms` it would hold
three arrays of a leaf's size. As sums over rows and one expression a leaf it holds one, and passes over memory
less often; tests/rules compare both, and what they hold.
"""

import jax
import jax.numpy as jnp
import optax

from dictlearn.rules._schedules import rate
from dictlearn.types import Scalar

KIND = "optimiser"
ATOMS = "W_dec_FD"


def adam(
    lr: Scalar = 1e-4,
    *,
    steps: int,
    warmup_steps: int = 1000,
    schedule: str = "wsd",
    decay_fraction: float | None = None,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    clip_norm: float | None = 1.0,
    unit_norm: bool = True,
    lr_law: str = "none",
    n_latents: int = 2**14,
) -> optax.GradientTransformationExtraArgs:
    """lr: the largest of the schedule. steps: length of the run. decay_fraction: wsd's, None for 0.2.
    clip_norm: bound on the global norm of the gradient, None for no clipping. unit_norm: keep atoms (W_dec_FD,
    where the variant has it) at unit norm and project their gradient. lr_law: "none" or "sqrt_latents";
    n_latents: its width."""
    at = rate(
        lr,
        **{"steps": steps, "warmup_steps": warmup_steps, "schedule": schedule},
        **{"decay_fraction": decay_fraction, "lr_law": lr_law, "n_latents": n_latents},
    )

    def init(params):
        zeros = lambda: jax.tree.map(jnp.zeros_like, params)
        return optax.ScaleByAdamState(jnp.zeros((), jnp.int32), zeros(), zeros())

    def update(updates, state, params=None):
        assert params is not None, "this rule projects onto atoms, and must see them"
        gradients, held = updates, unit_norm and ATOMS in updates
        if held:
            gradients = {**gradients, ATOMS: _tangent(gradients[ATOMS], params[ATOMS])}
        if clip_norm is not None:
            norm = optax.tree.norm(gradients)
            shrink = jnp.where(norm < clip_norm, 1.0, clip_norm / norm)
            gradients = jax.tree.map(lambda g: shrink.astype(g.dtype) * g, gradients)
        step = state.count + 1
        mu = optax.tree.update_moment(gradients, state.mu, b1, 1)
        nu = optax.tree.update_moment(gradients, state.nu, b2, 2)
        down, unbiased = -at(state.count), optax.tree.bias_correction
        updates = jax.tree.map(
            lambda m, v: down * (m / (jnp.sqrt(v) + eps)),
            unbiased(mu, b1, step),
            unbiased(nu, b2, step),
        )
        if held:
            updates = {**updates, ATOMS: _onto_sphere(updates[ATOMS], params[ATOMS])}
        return updates, optax.ScaleByAdamState(step, mu, nu)

    return optax.with_extra_args_support(optax.GradientTransformation(init, update))


def _tangent(gradient_FD, atoms_FD):
    """What `project_gradient` makes of it."""
    along_F1 = jnp.sum(gradient_FD * atoms_FD, -1, keepdims=True)
    square_F1 = jnp.sum(atoms_FD**2, -1, keepdims=True)
    return gradient_FD - atoms_FD * (along_F1 / jnp.where(square_F1 > 0, square_F1, 1))


def _onto_sphere(update_FD, atoms_FD):
    """What `normalise_atoms` makes of it."""
    moved_FD = atoms_FD + update_FD
    norm_F1 = jnp.sqrt(jnp.sum(moved_FD**2, -1, keepdims=True))
    return moved_FD / jnp.where(norm_F1 > 0, norm_F1, 1) - atoms_FD
