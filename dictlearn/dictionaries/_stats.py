"""Running statistics that a forward pass keeps in `stats`: small modules whose leaves are flat, like the
leaves of the dictionary.

    Step        number of training passes, for schedules and random draws
    Threshold   theta = E_batches[smallest positive score kept]
    Density     share of the tokens on which each latent is active

The means are running means, corrected for their start at zero. `share` adds them to a module.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Bool, Float


def share(module: nn.Module, *parts: Any) -> None:
    """Puts the parts into the scope of `module`, and declares their leaves, whichever method is called
    first. Call it from `setup`."""
    for part in parts:
        nn.share_scope(module, part)
        part.declare()


class Stats(nn.Module):
    """Statistics that only training passes write."""

    def declare(self) -> None:
        """Runs `setup`, which Linen would otherwise delay to the first call of a method."""

    @property
    def learns(self) -> bool:
        """Whether this pass may write: a training pass, after initialisation."""
        return self.is_mutable_collection("stats") and not self.is_initializing()


class Step(Stats):
    """The number of training passes."""

    def setup(self):
        self.step = self.variable("stats", "step", jnp.zeros, (), jnp.int32)

    def now(self) -> jax.Array:
        return self.step.value

    def advance(self) -> None:
        """Adds one to the count, in a training pass."""
        if self.learns:
            self.step.value = self.step.value + 1

    def next_key(self, seed: int) -> jax.Array:
        """The random key of this training pass, from `seed` and the count; the count is then advanced."""
        key = jax.random.fold_in(jax.random.key(seed), self.step.value)
        self.advance()
        return key


class Threshold(Stats):
    """The running mean of the smallest score kept, with decay `decay`."""

    decay: float

    def setup(self):
        self.mean = self.variable("stats", "threshold_mean", jnp.zeros, ())
        self.weight = self.variable("stats", "threshold_weight", jnp.zeros, ())

    def now(self) -> jax.Array:
        """theta, a scalar; 0 before the first batch."""
        weight = self.weight.value
        return self.mean.value / jnp.where(weight > 0, weight, 1)

    def take(self, least: Float[Array, ""], restart: bool | Bool[Array, ""] = False) -> None:
        """Adds the smallest score that a batch keeps to the mean (infinity where it keeps none); `restart`
        discards the earlier batches."""
        if not self.learns:
            return
        least = lax.stop_gradient(least).astype(self.mean.value.dtype)
        found = jnp.isfinite(least)
        new = jnp.where(found, 1 - self.decay, 0.0)
        old = jnp.where(restart, 0.0, 1 - new)
        least = jnp.where(found, least, 0.0)
        self.mean.value = old * self.mean.value + new * least
        self.weight.value = old * self.weight.value + new


class Density(Stats):
    """The running densities of `n_latents` latents, with decay `decay`."""

    n_latents: int
    decay: float

    def setup(self):
        self.mean = self.variable("stats", "density_F", jnp.zeros, (self.n_latents,))
        self.weight = self.variable("stats", "density_weight", jnp.zeros, ())

    def now(self) -> jax.Array:
        """`[F]`; zeros before the first batch."""
        weight = self.weight.value
        return self.mean.value / jnp.where(weight > 0, weight, 1)

    def take(self, f_BF: Float[Array, "B F"], on: bool | Bool[Array, ""] = True) -> None:
        """Adds the densities of a batch to the mean, where `on` is true."""
        if not self.learns:
            return
        now_F = jnp.mean(lax.stop_gradient(f_BF) > 0, axis=0, dtype=jnp.float32)
        new = jnp.where(on, 1 - self.decay, 0.0)
        self.mean.value = (1 - new) * self.mean.value + new * now_F
        self.weight.value = (1 - new) * self.weight.value + new
