"""Schedules: the learning rate at step t of T, by name.

    lr(t) = lr min((t + 1) / W, fall(t))      within [0, lr]

W is `warmup_steps`. After the warm-up, `constant` stays; `linear` and `cosine` fall to 0 at T; `inverse_sqrt`
is sqrt(W / t). `wsd` (warm-up, stable, decay; Hu et al. 2024) stays, and falls linearly over the last
`decay_fraction` of the steps. A new schedule is one line of FALLS.

Under `lr_law="sqrt_latents"` the plateau is lr sqrt(2^14 / n_latents), so that a rate found at one width
applies to other widths (Gao et al. 2024, section 3.1; sparsify and dictionary_learning take lr = 2e-4).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax

DEFAULT_DECAY = 0.2


class Run(NamedTuple):
    """steps: T. warmup: W. rest: the number of steps after the warm-up, at least 1. decay: the number of steps
    of the final decay, at least 1."""

    steps: int
    warmup: int
    rest: int
    decay: int


FALLS: dict[str, Callable[[Run], Callable[[Any], Any]]] = {
    "constant": lambda run: optax.constant_schedule(1.0),
    "linear": lambda run: _after(run, optax.linear_schedule(1.0, 0.0, run.rest)),
    "cosine": lambda run: _after(run, optax.cosine_decay_schedule(1.0, run.rest)),
    "inverse_sqrt": lambda run: lambda step: jnp.sqrt(run.warmup / jnp.maximum(step, run.warmup)),
    "wsd": lambda run: lambda step: (run.steps - step) / run.decay,
}
"""The factor of the rate, by the name of the schedule: run -> (step -> factor)."""


def rate(
    lr: Any,
    *,
    steps: int,
    warmup_steps: int,
    schedule: str,
    decay_fraction: float | None,
    lr_law: str,
    n_latents: int,
) -> Callable[[Any], Any]:
    """step -> the learning rate, a float of the default precision. lr: the largest rate, a tracer in a sweep.

    Raises ValueError for an unknown schedule or law, and for a `decay_fraction` outside [0, 1] or with a
    schedule that does not read it."""
    if schedule not in FALLS:
        raise ValueError(f"{schedule=} must be one of {', '.join(FALLS)}.")
    if lr_law not in ("none", "sqrt_latents"):
        raise ValueError(f"{lr_law=} must be none or sqrt_latents.")
    if decay_fraction and schedule != "wsd":
        raise ValueError(
            f"only wsd reads {decay_fraction=}; with {schedule=} leave it out or set it to 0."
        )
    refuse_rate(lr)
    share = DEFAULT_DECAY if decay_fraction is None else decay_fraction
    if not 0 <= share <= 1:
        raise ValueError(f"{decay_fraction=} must lie between 0 and 1.")
    if lr_law == "sqrt_latents":
        lr = lr * (2**14 / n_latents) ** 0.5
    warmup = max(1, warmup_steps)
    rest = max(1, steps - warmup_steps)
    fall = FALLS[schedule](Run(steps, warmup, rest, max(1, round(share * steps))))

    def at(step):
        warm = (step + 1) / warmup
        return lr * jnp.asarray(jnp.clip(jnp.minimum(warm, fall(step)), 0.0, 1.0), float)

    return at


def refuse_rate(lr: Any) -> None:
    """Raises ValueError for a learning rate that is negative or not finite."""
    if isinstance(lr, int | float) and not 0 <= lr < float("inf"):
        raise ValueError(f"rule.{lr=} must be a number, at least 0.")


def _after(run: Run, fall: Callable) -> Callable:
    """1 during the warm-up, then `fall` of the number of steps since its end."""
    return optax.join_schedules([optax.constant_schedule(1.0), fall], [run.steps - run.rest])
