"""Adam as dictionaries are trained with it: projection, clipping, Adam, schedule, unit atoms.

    g <- g - <g, d> d      g <- clip(g)      u <- -lr(t) Adam(g)      d <- (d + u) / |d + u|

The learning rate warms up linearly, stays, and decays linearly to zero over the last `decay_fraction` of
`steps`. Under `lr_law="sqrt_latents"` the plateau is lr sqrt(2^14 / n_latents): a rate found at one width
serves the others (Gao et al. 2024, section 3.1; sparsify and dictionary_learning take lr = 2e-4).

Source: Kingma & Ba 2015; the order and the defaults of Gao et al. 2024 (A.3) and Conerly et al.
2024 (April update), whose decay over the last fifth this takes.
"""

import jax.numpy as jnp
import optax

from dictlearn.rules.normalise_atoms import normalise_atoms
from dictlearn.rules.project_gradient import project_gradient
from dictlearn.types import Scalar


def adam(
    lr: Scalar = 1e-4,
    *,
    steps: int,
    warmup_steps: int = 1000,
    decay_fraction: float = 0.2,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    clip_norm: float | None = 1.0,
    unit_norm: bool = True,
    lr_law: str = "none",
    n_latents: int = 2**14,
) -> optax.GradientTransformationExtraArgs:
    """lr: the plateau of the schedule. steps: length of the run. clip_norm: bound on the global norm of
    the gradient, None for no clipping. unit_norm: keep atoms (W_dec_FD, where the variant has it) at unit
    norm and project their gradient. lr_law: "none" or "sqrt_latents"; n_latents: its width."""
    if lr_law not in ("none", "sqrt_latents"):
        raise ValueError(f"{lr_law=} must be none or sqrt_latents.")
    if lr_law == "sqrt_latents":
        lr = lr * (2**14 / n_latents) ** 0.5
    if not 0 <= decay_fraction <= 1:
        raise ValueError(f"{decay_fraction=} must lie between 0 and 1.")

    def schedule(step):
        warm = (step + 1) / max(1, warmup_steps)
        decay_steps = max(1, round(decay_fraction * steps))
        cool = (steps - step) / decay_steps
        return lr * jnp.asarray(jnp.clip(jnp.minimum(warm, cool), 0.0, 1.0), float)

    parts = [project_gradient()] if unit_norm else []
    parts += [optax.clip_by_global_norm(clip_norm)] if clip_norm is not None else []
    parts += [optax.scale_by_adam(b1, b2, eps), optax.scale_by_learning_rate(schedule)]
    parts += [normalise_atoms()] if unit_norm else []
    return optax.with_extra_args_support(optax.chain(*parts))
