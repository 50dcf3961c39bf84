"""What the variants that share out k share: a k that falls with the steps, and a threshold for inference.

    k_t = k + (k_start - k) left(t / anneal_steps)      left: 1 - t   or   (e^{-ct} - e^{-c}) / (1 - e^{-c})
    theta = E_batches[smallest positive score kept]

Source: Llama Scope (He et al. 2024, arXiv:2410.20526), section 3, K-annealing, linear; the exponential is that
of its authors' code, with c = 5 for want of a published value. Bussmann et al. 2024 (arXiv:2412.06410) for
theta, here a running mean that is corrected for its start at zero and begins anew when annealing ends.
"""

import jax.numpy as jnp
from jax import lax

from dictlearn.dictionaries import _linear, _stats
from dictlearn.ops.control_flow import most_of_members
from dictlearn.types import Codes

_RATE = 5.0


def check(module) -> None:
    """Raises ValueError for a k, a schedule or an aux_k that `module` cannot have. From `setup`."""
    n = module.n_latents
    if isinstance(module.k, int | float) and not 0 < module.k <= n:
        raise ValueError(f"k={module.k} must lie between 0 and n_latents={n}.")
    if module.aux_k > n:
        raise ValueError(f"aux_k={module.aux_k} exceeds n_latents={n}.")


def most(module) -> int:
    """The bound on `k`: `k_max`, or k itself. Raises ValueError unless 1 <= k <= k_max <= n_latents."""
    k, k_max, n_latents = module.k, module.k_max, module.n_latents
    if k_max is None and not isinstance(k, int):
        raise ValueError(f"k={k} is not an int; give k_max, the most entries kept.")
    if k_max is not None and k_max > n_latents:
        raise ValueError(f"{k_max=} exceeds {n_latents=}.")
    if isinstance(k, int) and not 1 <= k <= (k_max or n_latents):
        bound = f"{n_latents=}" if k_max is None else f"{k_max=}"
        raise ValueError(f"{k=} must lie between 1 and {bound}.")
    return int(k) if k_max is None else k_max


def used(k, width: int):
    """Of `width` entries in order of rank, those that a traced `k` keeps (a fraction counts whole), for
    loops that need not be as long as its bound; None, all, where k is known and is the width."""
    if isinstance(k, int):
        return None
    return most_of_members(jnp.minimum(jnp.ceil(jnp.asarray(k)), width).astype(jnp.int32))


def crowd(module) -> int:
    """Active latents of one token up to which it is computed sparsely where the batch shares out
    k: 3 k, of a traced k its bound `k_max`; all latents where that is much of them, or k has no bound or
    falls from a start."""
    k = module.k if isinstance(module.k, int | float) else module.k_max
    if k is None or getattr(module, "anneal_steps", 0):
        return module.n_latents
    most = max(8, round(3 * k))
    return most if 8 * most <= module.n_latents else module.n_latents


def check_annealing(module) -> None:
    """Raises ValueError for an unknown schedule, or a start outside the latents. From `setup`."""
    if module.anneal not in ("linear", "exponential"):
        raise ValueError(f"anneal={module.anneal!r} must be linear or exponential.")
    if not 1 <= k_start(module) <= module.n_latents:
        raise ValueError(f"k_start={module.k_start} must lie between 1 and {module.n_latents=}.")


def k_start(module):
    """The k of the first step: `k_start`, or d_in where there are as many latents."""
    return module.k_start or min(module.d_in, module.n_latents)


def annealed(module):
    """k of this step, falling from `k_start` to `k` over `anneal_steps` forward passes."""
    if not module.anneal_steps:
        return module.k
    share = module.step.value / module.anneal_steps
    if module.anneal == "exponential":
        share = (1 - jnp.exp(-_RATE * share)) / (1 - jnp.exp(-_RATE))
    falling = module.k + (k_start(module) - module.k) * (1 - share)
    return jnp.where(module.step.value < module.anneal_steps, falling, module.k)


def atom_norms(module):
    """|d_i|, `[F]`, without gradient."""
    return jnp.linalg.norm(lax.stop_gradient(module.W_dec_FD), axis=1)


def declare_threshold(module) -> None:
    """theta's running mean and its weight in `stats`. From `setup`."""
    module.threshold_mean = module.variable("stats", "threshold_mean", jnp.zeros, ())
    module.threshold_weight = module.variable("stats", "threshold_weight", jnp.zeros, ())


def threshold(module):
    """theta, a scalar; 0 before the first batch."""
    weight = module.threshold_weight.value
    return module.threshold_mean.value / jnp.where(weight > 0, weight, 1)


def remember(module, score_BF, anew=False) -> None:
    """Takes the smallest positive of the scores kept (0 where not) into theta; `anew` forgets the past."""
    if not _stats.learns(module):
        return
    score_BF = lax.stop_gradient(score_BF)
    least = jnp.min(jnp.where(score_BF > 0, score_BF, jnp.inf))
    least = least.astype(module.threshold_mean.value.dtype)
    found = jnp.isfinite(least)
    new = jnp.where(found, 1 - module.threshold_decay, 0.0)
    old = jnp.where(anew, 0.0, 1 - new)
    least = jnp.where(found, least, 0.0)
    module.threshold_mean.value = old * module.threshold_mean.value + new * least
    module.threshold_weight.value = old * module.threshold_weight.value + new


def declare_density(module) -> None:
    """The latents' running densities and their weight in `stats`. From `setup`."""
    shape = (module.n_latents,)
    module.density_mean = module.variable("stats", "density_F", jnp.zeros, shape)
    module.density_weight = module.variable("stats", "density_weight", jnp.zeros, ())


def density(module):
    """Share of tokens on which each latent is active, `[F]`; zeros before the first batch."""
    weight = module.density_weight.value
    return module.density_mean.value / jnp.where(weight > 0, weight, 1)


def observe(module, codes: Codes, on=True) -> None:
    """Takes the densities of a batch into the running ones, where `on`."""
    if not _stats.learns(module):
        return
    now_F = jnp.mean(lax.stop_gradient(codes.val) > 0, axis=0, dtype=jnp.float32)
    new = jnp.where(on, 1 - module.density_decay, 0.0)
    module.density_mean.value = (1 - new) * module.density_mean.value + new * now_F
    module.density_weight.value = (1 - new) * module.density_weight.value + new


def residual(module, read, pre_BF, chosen_F):
    """AuxK by the latents `chosen_F`, those active in this batch too; None where `aux_k` is 0."""
    none = Codes(jnp.zeros((len(pre_BF), 1)), jnp.zeros((len(pre_BF), 1), jnp.int32))
    return _linear.residual(module, read, pre_BF, none, chosen_F)
