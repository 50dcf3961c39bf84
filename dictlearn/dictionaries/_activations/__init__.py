"""Activations: which latents fire, and what it costs. One a file, found by its name.

An activation is a field of a structure and shares its scope, so that its leaves (`log_threshold_F`) lie beside
those of the structure (`W_enc_FD`). It gets pre-activations and chooses; the structure decodes what it chose.
Training: `choose` says, without gradient, what fires, as `Few` (sparse) or `Many` (dense) entries. Their `over`
computes the structure's reconstructions of them, with gradient.
"""

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from dictlearn.ops.sparse import coding, support
from dictlearn.types import Codes, Scalar

Weight = Float[Array, "... F"] | None
"""What a unit of each latent adds, `[F]`, or of each entry, `[B, F]`; None where it is not asked for."""


class Values(NamedTuple):
    """What entries come to. val: the latents, zero where they do not fire. penalty_B: a token's penalty, None
    for none. gate: values that a reconstruction of their own is made of, by frozen atoms; None for none."""

    val: jax.Array
    penalty_B: jax.Array | None = None
    gate: jax.Array | None = None


class Found(NamedTuple):
    """What `over` gives. codes: the latents. whole: what `body` made of them. others: (weight, the same of
    other latents)."""

    codes: Codes
    whole: Any
    others: tuple[tuple[Scalar, Any], ...] = ()


class Few(NamedTuple):
    """Entries that a token keeps, in order of rank. val_BK, idx_BK: pre-activations without gradient, and
    latents. on_BK: which fire. used: how many any token uses, None for all. more: (weight, on, used) of a
    second, wider set; then val and idx are as wide as that and begin with those of the first."""

    val_BK: Float[Array, "B K"]
    idx_BK: Int[Array, "B K"]
    on_BK: Bool[Array, "..."]
    used: jax.Array | None = None
    more: tuple | None = None
    aux: tuple[Codes, jax.Array] | None = None

    penalty_B = None
    arguments = ()

    @property
    def codes(self) -> Codes:
        """The latents, without gradient."""
        return self._codes(self.val_BK)

    def over(self, body: Callable, read: tuple, more: tuple) -> Found:
        """`body(entries, *more)`, with gradient through `read`: (x, W_enc, b_enc)."""
        used = self.more[2] if self.more else self.used
        return self._found(body, coding.select(self.val_BK, self.idx_BK, *read, used), more)

    def given(self, body: Callable, pre_BF: Float[Array, "B F"], more: tuple) -> Found:
        """The same, with gradient through pre-activations."""
        return self._found(body, jnp.take_along_axis(pre_BF, self.idx_BK, axis=1), more)

    def _found(self, body, val_BK, more) -> Found:
        width, others = self.on_BK.shape[1], ()
        if self.more is not None:
            weight, on_BK, used = self.more
            wide = support.Entries(val_BK, on_BK, self.idx_BK, used)
            others = ((weight, body(wide, *more)),)
        first = support.Entries(val_BK[:, :width], self.on_BK, self.idx_BK[:, :width], self.used)
        return Found(self._codes(val_BK), body(first, *more), others)

    def _codes(self, val_BK) -> Codes:
        width = self.on_BK.shape[1]
        return Codes(jnp.where(self.on_BK, val_BK[:, :width], 0), self.idx_BK[:, :width])


class Many(NamedTuple):
    """Entries of any number. codes: the latents, without gradient. score_BF: positive for the entries that
    matter to the values or their gradients. pre_BF: pre-activations. most: entries of a token up to which it
    is computed sparsely, F for none. arguments: what `values` also takes. penalty_B: joins the penalty."""

    codes: Codes
    score_BF: Float[Array, "B F"]
    pre_BF: Float[Array, "B F"]
    most: int
    arguments: tuple = ()
    penalty_B: jax.Array | None = None
    aux: tuple[Codes, jax.Array] | None = None

    def over(self, body: Callable, read: tuple, more: tuple) -> Found:
        """See `Few`."""
        more = *more, *self.arguments
        found = support.over(body, self.score_BF, self.pre_BF, self.most, *read, *more)
        return Found(self.codes, found)

    def given(self, body: Callable, pre_BF: Float[Array, "B F"], more: tuple) -> Found:
        """See `Few`."""
        entries = support.Entries(pre_BF, self.score_BF > 0)
        return Found(self.codes, body(entries, *more, *self.arguments))


class Activation(nn.Module):
    """d_in, n_latents: those of its structure.

    Traits, each a property that a field may replace: `weighted`, whether it asks for weights; `aux_k`, dead
    latents that AuxK uses a token; `scales`, whether it is the same function at another scale of the atoms."""

    d_in: int
    n_latents: int

    def declare(self) -> None:
        """Runs `setup`, which Linen leaves to the first call of any method."""

    def choose(self, pre_BF: Float[Array, "B F"], weight: Weight, dead_F: jax.Array) -> Few | Many:
        """Training: which latents fire. All without gradient; may look at the whole batch and keep `stats`."""
        raise NotImplementedError

    def values(self, entries: support.Entries, weight: Weight, *arguments) -> Values:
        """With gradient; must be zero where `entries.on` is not."""
        return Values(jnp.where(entries.on, entries.z, 0))

    def infer(self, pre_BF: Float[Array, "B F"], weight: Weight) -> Codes:
        """Inference: each token by itself."""
        f_BF, threshold = jax.nn.relu(pre_BF), self.threshold(weight)
        return Codes(f_BF if threshold is None else f_BF * (f_BF > threshold))

    def threshold(self, weight: Weight) -> jax.Array | None:
        """What a pre-activation must exceed to fire at inference; None where no threshold decides."""
        return None

    @property
    def weighted(self) -> bool:
        return False

    @property
    def aux_k(self) -> int:
        return 0

    @property
    def scales(self) -> bool:
        return True


def names() -> list[str]:
    """The activations there are: the files of this folder."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(name for name in found if not name.startswith("_"))


def kind(name: str) -> type[Activation]:
    """The class of an activation: the one that its file defines. Raises ValueError for an unknown name."""
    if name not in names():
        raise ValueError(f"unknown activation {name!r}; there are {', '.join(names())}.")
    module = importlib.import_module(f"{__name__}.{name}")
    (found,) = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Activation)
        and value.__module__ == module.__name__
    ]
    return found
