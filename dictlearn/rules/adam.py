"""Adam for dictionaries: gradient projection, clipping, Adam, schedule, unit-norm atoms.

    g <- g - <g, d> d      g <- clip(g)      u <- -lr(t) Adam(g)      d <- (d + u) / |d + u|

Schedules and laws of the learning rate are in `_schedules.py`. By default the rate warms up linearly, stays,
and decays linearly to zero over the last `decay_fraction` of `steps`.

A chain of `project_gradient`, `optax.clip_by_global_norm`, `optax.adam` and `normalise_atoms` would hold three
temporary arrays of a leaf's size. Written as sums over rows and one expression a leaf, the rule holds one and
reads memory less often. tests/rules compares the results and the memory of both.

With `per_latent` the second moment of a latent's row in a matrix is one number, the mean over its entries.
The rule then holds one array of a matrix's size, not two.

Source: Kingma & Ba 2015 (arXiv:1412.6980); Zhang et al. 2024 (arXiv:2406.16793, Adam-mini) for `per_latent`.
"""

from functools import partial

import jax
import jax.numpy as jnp
import optax

from dictlearn.rules._schedules import rate
from dictlearn.sharding import letters
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
    per_latent: bool = False,
    clip_norm: float | None = 1.0,
    unit_norm: bool = True,
    lr_law: str = "none",
    n_latents: int = 2**14,
) -> optax.GradientTransformationExtraArgs:
    """The rule.

    Args:
        lr: the largest learning rate of the schedule.
        steps: the number of steps of the run.
        warmup_steps: the number of steps over which the rate rises to `lr`.
        schedule: a schedule, of `rules.schedules()`.
        decay_fraction: the share of the steps over which `wsd` decays; None for 0.2.
        b1, b2, eps: as in `optax.adam`.
        per_latent: whether all entries of a latent's row share their second moment.
        clip_norm: the bound on the global norm of the gradient; None for no clipping.
        unit_norm: whether atoms (W_dec_FD, if the variant has it) are held at unit norm, with projected
            gradients.
        lr_law: "none" or "sqrt_latents".
        n_latents: the width that `lr_law` reads.

    Returns:
        An optax transformation.

    Raises:
        ValueError: for an unknown schedule or law, and for an argument out of its bounds.
    """
    at = rate(
        lr,
        **{"steps": steps, "warmup_steps": warmup_steps, "schedule": schedule},
        **{"decay_fraction": decay_fraction, "lr_law": lr_law, "n_latents": n_latents},
    )

    squares = partial(jax.tree_util.tree_map_with_path, partial(_square, per_latent))

    def init(params):
        mu, nu = (jax.tree.map(jnp.zeros_like, tree) for tree in (params, squares(params)))
        return optax.ScaleByAdamState(jnp.zeros((), jnp.int32), mu, nu)

    def update(updates, state, params=None):
        assert params is not None, "this rule projects gradients onto atoms: pass params"
        gradients, held = updates, unit_norm and ATOMS in updates
        if held:
            gradients = {**gradients, ATOMS: _tangent(gradients[ATOMS], params[ATOMS])}
        if clip_norm is not None:
            norm = optax.tree.norm(gradients)
            shrink = jnp.where(norm < clip_norm, 1.0, clip_norm / norm)
            gradients = jax.tree.map(lambda g: shrink.astype(g.dtype) * g, gradients)
        step = state.count + 1
        mu = optax.tree.update_moment(gradients, state.mu, b1, 1)
        nu = optax.tree.update_moment(squares(gradients), state.nu, b2, 1)
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


def _square(per_latent, path, g):
    if per_latent and letters(path).endswith("FD"):
        return jnp.mean(g**2, -1, keepdims=True)
    return g**2


def _tangent(gradient_FD, atoms_FD):
    """The projected gradient, equal to that of `project_gradient`."""
    along_F1 = jnp.sum(gradient_FD * atoms_FD, -1, keepdims=True)
    square_F1 = jnp.sum(atoms_FD**2, -1, keepdims=True)
    return gradient_FD - atoms_FD * (along_F1 / jnp.where(square_F1 > 0, square_F1, 1))


def _onto_sphere(update_FD, atoms_FD):
    """The update that leads to unit atoms, equal to that of `normalise_atoms`."""
    moved_FD = atoms_FD + update_FD
    norm_F1 = jnp.sqrt(jnp.sum(moved_FD**2, -1, keepdims=True))
    return moved_FD / jnp.where(norm_F1 > 0, norm_F1, 1) - atoms_FD
