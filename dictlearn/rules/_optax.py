"""Optimisers from optax, one line each, chained with our projections, clipping and schedules:

    g <- g - <g, d> d      g <- clip(g)      u <- optimiser(g) at lr(t)      d <- (d + u) / |d + u|

Names and arguments are optax's, except that `learning_rate` is `lr`; schedules are in `_schedules.py`.
docs/optimisers.md has the share of planted latents that each recovers, and the optimisers that are left out.
"""

import inspect
import typing
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from optax import contrib

from dictlearn.rules._schedules import rate
from dictlearn.rules.normalise_atoms import normalise_atoms
from dictlearn.rules.project_gradient import project_gradient
from dictlearn.types import Scalar

OPTIMISERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "acprop": contrib.acprop,
    "adabelief": optax.adabelief,
    "adadelta": optax.adadelta,
    "adagrad": optax.adagrad,
    "adamax": optax.adamax,
    "adamaxw": optax.adamaxw,
    "adamw": optax.adamw,
    "adan": optax.adan,
    "ademamix": contrib.ademamix,
    "adopt": contrib.adopt,
    "amsgrad": optax.amsgrad,
    "cocob": contrib.cocob,
    "dadapt_adamw": contrib.dadapt_adamw,
    "dog": contrib.dog,
    "dowg": contrib.dowg,
    "fromage": optax.fromage,
    "lamb": optax.lamb,
    "lars": optax.lars,
    "lion": optax.lion,
    "madgrad": contrib.madgrad,
    "muon": contrib.muon,
    "nadam": optax.nadam,
    "nadamw": optax.nadamw,
    "optimistic_adam_v2": optax.optimistic_adam_v2,
    "prodigy": contrib.prodigy,
    "radam": optax.radam,
    "rmsprop": optax.rmsprop,
    "schedule_free_adamw": contrib.schedule_free_adamw,
    "schedule_free_sgd": contrib.schedule_free_sgd,
    "sgd": optax.sgd,
    "sign_sgd": optax.sign_sgd,
    "signum": optax.signum,
    "simplified_ademamix": contrib.simplified_ademamix,
    "yogi": optax.yogi,
}


def named(name: str) -> Callable[..., optax.GradientTransformationExtraArgs]:
    """A function that makes the optimiser, from the arguments of `surrounded` and of optax's function."""
    optimiser = OPTIMISERS[name]

    def make(**arguments):
        return surrounded(optimiser, **arguments)

    hints = typing.get_type_hints(surrounded)
    around = inspect.signature(surrounded).parameters
    found = [one for one in around.values() if one.kind is one.KEYWORD_ONLY]
    for one in inspect.signature(optimiser).parameters.values():
        if one.name != "learning_rate" and one.name not in around:
            found.append(inspect.Parameter(one.name, one.KEYWORD_ONLY, default=one.default))
    make.__annotations__ = {one.name: hints[one.name] for one in found if one.name in hints}
    make.__dict__["__signature__"] = inspect.Signature(found)
    return make


def surrounded(
    optimiser: Callable[..., optax.GradientTransformation],
    *,
    lr: Scalar | None = None,
    steps: int,
    warmup_steps: int = 1000,
    schedule: str = "wsd",
    decay_fraction: float | None = None,
    clip_norm: float | None = 1.0,
    unit_norm: bool = True,
    lr_law: str = "none",
    n_latents: int = 2**14,
    **own,
) -> optax.GradientTransformationExtraArgs:
    """The optimiser in a chain with projection, clipping and schedule. lr: None for optax's own default; optax
    always gets a schedule, so that a traced lr meets no branch. own: arguments of optax's function. The others
    are as in `adam`."""
    lr = inspect.signature(optimiser).parameters["learning_rate"].default if lr is None else lr
    if lr is None or lr is inspect.Parameter.empty:
        raise ValueError("config.rule.lr is missing; this optimiser has no default.")
    at = rate(
        lr,
        **{"steps": steps, "warmup_steps": warmup_steps, "schedule": schedule},
        **{"decay_fraction": decay_fraction, "lr_law": lr_law, "n_latents": n_latents},
    )
    inner = optax.with_extra_args_support(optimiser(learning_rate=at, **own))
    # In a donated state, no two leaves may share a buffer, and none may share one with a parameter.
    copied = lambda params: jax.tree.map(jnp.copy, inner.init(params))
    moves = optax.GradientTransformationExtraArgs(copied, inner.update)
    parts = [project_gradient()] if unit_norm else []
    parts += [] if clip_norm is None else [optax.clip_by_global_norm(clip_norm)]
    parts += [moves, normalise_atoms()] if unit_norm else [moves]
    return optax.with_extra_args_support(optax.chain(*parts))
