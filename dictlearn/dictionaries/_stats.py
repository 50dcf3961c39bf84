"""Statistics that a forward pass keeps in `stats`: small modules whose leaves lie flat beside the parameters.

    Step        passes done, from which schedules and draws are made
    Threshold   theta = E_batches[smallest positive score kept]
    Density     share of the tokens on which each latent is active

The means are running ones, corrected for their start at zero. A module takes them in with `share`.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Bool, Float


def share(module: nn.Module, *parts: Any) -> None:
    """Takes the parts into the scope of `module`, and declares their leaves, whatever is called first. From
    `setup`."""
    for part in parts:
        nn.share_scope(module, part)
        part.declare()


class Stats(nn.Module):
    """Written by training passes alone."""

    def declare(self) -> None:
        """Runs `setup`, which Linen leaves to the first call of any method."""

    @property
    def learns(self) -> bool:
        """Whether this pass may write: a training one, after initialisation."""
        return self.is_mutable_collection("stats") and not self.is_initializing()


class Step(Stats):
    """A count of training passes."""

    def setup(self):
        self.step = self.variable("stats", "step", jnp.zeros, (), jnp.int32)

    def now(self) -> jax.Array:
        return self.step.value

    def advance(self) -> None:
        """One pass more, if this one learns."""
        if self.learns:
            self.step.value = self.step.value + 1

    def next_key(self, seed: int) -> jax.Array:
        """A key of this training pass, from `seed` and the count; the count then moves on."""
        key = jax.random.fold_in(jax.random.key(seed), self.step.value)
        self.advance()
        return key


class Threshold(Stats):
    """The running mean of the smallest score kept, with `decay`."""

    decay: float

    def setup(self):
        self.mean = self.variable("stats", "threshold_mean", jnp.zeros, ())
        self.weight = self.variable("stats", "threshold_weight", jnp.zeros, ())

    def now(self) -> jax.Array:
        """theta, a scalar; 0 before the first batch."""
        weight = self.weight.value
        return self.mean.value / jnp.where(weight > 0, weight, 1)

    def take(self, score_BF: Float[Array, "B F"], anew: bool | Bool[Array, ""] = False) -> None:
        """Takes in the smallest positive of the scores kept (0 where not); `anew` forgets the past."""
        if not self.learns:
            return
        score_BF = lax.stop_gradient(score_BF)
        least = jnp.min(jnp.where(score_BF > 0, score_BF, jnp.inf))
        least = least.astype(self.mean.value.dtype)
        found = jnp.isfinite(least)
        new = jnp.where(found, 1 - self.decay, 0.0)
        old = jnp.where(anew, 0.0, 1 - new)
        least = jnp.where(found, least, 0.0)
        self.mean.value = old * self.mean.value + new * least
        self.weight.value = old * self.weight.value + new


class Density(Stats):
    """Running densities of `n_latents` latents, with `decay`."""

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
        """Takes the densities of a batch in, where `on`."""
        if not self.learns:
            return
        now_F = jnp.mean(lax.stop_gradient(f_BF) > 0, axis=0, dtype=jnp.float32)
        new = jnp.where(on, 1 - self.decay, 0.0)
        self.mean.value = (1 - new) * self.mean.value + new * now_F
        self.weight.value = (1 - new) * self.weight.value + new
