"""A count of training passes in `stats`, from which schedules and draws inside a forward pass are made."""

import jax
import jax.numpy as jnp


def declare_step(module) -> None:
    """Declare the count as `module.step`. Called from `setup`."""
    module.step = module.variable("stats", "step", jnp.zeros, (), jnp.int32)


def learns(module) -> bool:
    """Whether this pass may write `stats`: a training one, after initialisation."""
    return module.is_mutable_collection("stats") and not module.is_initializing()


def advance(module) -> None:
    """One pass more, if this one learns."""
    if learns(module):
        module.step.value = module.step.value + 1


def next_key(module):
    """A key of this training pass, from the field `seed` and the count; the count then moves on."""
    key = jax.random.fold_in(jax.random.key(module.seed), module.step.value)
    advance(module)
    return key
