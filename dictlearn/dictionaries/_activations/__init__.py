"""Activations: which latents fire, and what penalty they pay. One activation a file, found by its name.

An activation is a field of a structure and shares its scope, so that its leaves (`log_threshold_F`) are
siblings of the structure's leaves (`W_enc_FD`). The activation receives pre-activations and selects; the
structure decodes what was selected. In training, `choose` returns, without gradient, the entries that
fire, as `Few` (sparse) or `Many` (dense) entries; their method `over` computes the structure's
reconstructions from these entries, with gradient.
"""

import functools
import importlib
import pkgutil
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from dictlearn.ops.sparse import coding, support
from dictlearn.types import Codes, Scalar

Weight = Float[Array, "... F"] | None
"""The norms that weight the latents, for each latent `[F]` or each entry `[B, F]`; None for no weights."""


class Values(NamedTuple):
    """The values of entries. val: the latents, zero where they do not fire. penalty_B: the penalty of each
    token, None for none. gate: the values of a second reconstruction with frozen atoms (Gated), None for
    none."""

    val: jax.Array
    penalty_B: jax.Array | None = None
    gate: jax.Array | None = None


class Found(NamedTuple):
    """The result of `over`. codes: the latents. whole: what `body` returned for them. others: (weight, what
    `body` returned) for other sets of latents."""

    codes: Codes
    whole: Any
    others: tuple[tuple[Scalar, Any], ...] = ()


class Few(NamedTuple):
    """The entries that a token keeps, in order of rank. val_BK, idx_BK: pre-activations without gradient,
    and the indices of their latents. on_BK: which of them fire. n_used: the largest number of entries
    that any token uses, None for all. more: (weight, on, n_used) of a second, wider set; then val_BK and
    idx_BK are as wide as the second set and begin with the first. aux: the codes and the latents for AuxK
    where these are not `codes` and the dead latents."""

    val_BK: Float[Array, "B K"]
    idx_BK: Int[Array, "B K"]
    on_BK: Bool[Array, "..."]
    n_used: jax.Array | None = None
    more: tuple | None = None
    aux: tuple[Codes, jax.Array] | None = None

    penalty_B = None
    arguments = ()

    @property
    def codes(self) -> Codes:
        """The latents, without gradient."""
        return self._codes(self.val_BK)

    def over(self, body: Callable, read: tuple, more: tuple) -> Found:
        """`body(entries, *more)`, with gradient through `read`, which is (x, W_enc, b_enc)."""
        n_used = self.more[2] if self.more else self.n_used
        return self._found(body, coding.select(self.val_BK, self.idx_BK, *read, n_used), more)

    def given(self, body: Callable, pre_BF: Float[Array, "B F"], more: tuple) -> Found:
        """The same as `over`, with gradient through given pre-activations."""
        return self._found(body, jnp.take_along_axis(pre_BF, self.idx_BK, axis=1), more)

    def _found(self, body, val_BK, more) -> Found:
        width, others = self.on_BK.shape[1], ()
        if self.more is not None:
            weight, on_BK, n_used = self.more
            wide = support.Entries(val_BK, on_BK, self.idx_BK, n_used)
            others = ((weight, body(wide, *more)),)
        first = support.Entries(val_BK[:, :width], self.on_BK, self.idx_BK[:, :width], self.n_used)
        return Found(self._codes(val_BK), body(first, *more), others)

    def _codes(self, val_BK) -> Codes:
        width = self.on_BK.shape[1]
        return Codes(jnp.where(self.on_BK, val_BK[:, :width], 0), self.idx_BK[:, :width])


class Many(NamedTuple):
    """Any number of entries. codes: the latents, without gradient. score_BF: positive for the entries that
    affect the values or the gradients of what they are computed from. pre_BF: pre-activations. k_sparse:
    tokens with fewer entries are computed sparsely; F for a dense computation. arguments: further arguments
    of `values`. penalty_B: a penalty that is added to the penalty of `values`. aux: as in `Few`. near: the
    k_sparse largest scores of each token and their latents, None where they are not known. window: whether
    entries without a positive score, too, affect the gradients of `arguments`."""

    codes: Codes
    score_BF: Float[Array, "B F"]
    pre_BF: Float[Array, "B F"]
    k_sparse: int
    arguments: tuple = ()
    penalty_B: jax.Array | None = None
    aux: tuple[Codes, jax.Array] | None = None
    near: tuple[Float[Array, "B M"], Int[Array, "B M"]] | None = None
    window: bool = False

    def over(self, body: Callable, read: tuple, more: tuple) -> Found:
        """See `Few`."""
        chosen = self.score_BF, self.pre_BF, self.k_sparse
        known = self.arguments, self.near, self.window
        return Found(self.codes, support.over(body, *chosen, read, more, *known))

    def given(self, body: Callable, pre_BF: Float[Array, "B F"], more: tuple) -> Found:
        """See `Few`."""
        entries = support.Entries(pre_BF, support.learning(self.score_BF, self.window))
        return Found(self.codes, body(entries, *more, *self.arguments))


class Activation(nn.Module, kw_only=True):
    """The interface of an activation, and the hyperparameters that all activations have.

    Args:
        d_in, n_latents: the widths of its structure.
        aux_k: the number of dead latents that AuxK uses for a token, 0 for no AuxK (the paper: about d_in
            / 2).
        aux_rectified: whether AuxK rectifies the pre-activations of the latents that it uses, as published.
            Then a latent far below zero receives no gradient, and AuxK does not revive it.
        aux_every: AuxK reads one token in this many, and costs that share (published: 1).

    Traits, each a property that a field may replace: `weighted`, whether it needs the norms of the atoms;
    `scales`, whether it is the same function when the atoms are rescaled.
    """

    d_in: int
    n_latents: int
    aux_k: int = 0
    aux_rectified: bool = False
    aux_every: int = 1

    @classmethod
    def recommended(cls, *, d_in: int, n_latents: int, steps: int, l0: float) -> dict:
        """What `experiment.recommended` sets for this activation, by subtree of a config. d_in, n_latents: the
        widths. steps: the length of the run. l0: the wanted number of active latents of a token."""
        return {}

    def declare(self) -> None:
        """Runs `setup`, which Linen would otherwise delay to the first call of a method."""

    def choose(
        self, pre_BF: Float[Array, "B F"], weight: Weight, dead_F: Bool[Array, " F"]
    ) -> Few | Many:
        """Training: selects the latents that fire, without gradient. It may look at the whole batch and
        update `stats`."""
        raise NotImplementedError

    def values(self, entries: support.Entries, weight: Weight, *arguments) -> Values:
        """The values of entries, with gradient. They must be zero where `entries.on` is false."""
        return Values(jnp.where(entries.on, entries.z, 0))

    def infer(self, pre_BF: Float[Array, "B F"], weight: Weight) -> Codes:
        """Inference: the codes of each token, independent of the other tokens."""
        f_BF, threshold = jax.nn.relu(pre_BF), self.threshold(weight)
        return Codes(f_BF if threshold is None else f_BF * (f_BF > threshold))

    def lifted(self, params: dict, lift_F: Float[Array, " F"]) -> dict:
        """Initial parameters whose pre-activations are higher by `lift_F`."""
        return {**params, "b_enc_F": params["b_enc_F"] + lift_F}

    def threshold(self, weight: Weight) -> jax.Array | None:
        """The value that a pre-activation must exceed to fire at inference; None where no threshold decides."""
        return None

    @property
    def weighted(self) -> bool:
        return False

    @property
    def scales(self) -> bool:
        return True


def one_of(known: Sequence[str], **values: str) -> None:
    """Raises ValueError for a field whose value is not known."""
    for name, value in values.items():
        if value not in known:
            raise ValueError(f"{name}={value!r} must be one of {', '.join(known)}.")


def positive(**values: Scalar) -> None:
    """Raises ValueError for a field that is a number and not positive; a traced one is not looked at."""
    for name, value in values.items():
        if isinstance(value, int | float) and not value > 0:
            raise ValueError(f"{name}={value} must be positive.")


def searched(d_in: int, n_latents: int, l0: float, **fields: Any) -> dict:
    """What is recommended for an L1 penalty: the learner finds its coefficient for an L0. It starts where l0
    coefficients of sqrt(d_in / l0) cost a twentieth of the objective. fields: more fields of the dictionary."""
    own = {"sparsity": 0.05 / (d_in * l0) ** 0.5, "density_start": density(n_latents, l0), **fields}
    return {"dictionary": own, "learner": {"penalty_l0": l0}}


def density(n_latents: int, l0: float) -> float:
    """The recommended share of the tokens on which a latent fires at initialisation: four times the wanted one,
    since a latent that never fires learns nothing."""
    return min(4 * l0 / n_latents, 0.5)


def names() -> list[str]:
    """The names of all activations: the files of this folder."""
    return list(_files())


@functools.cache
def _files() -> tuple[str, ...]:
    """The folder is listed once: names are asked for at every use of a dictionary."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(name for name in found if not name.startswith("_")))


def kind(name: str) -> type[Activation]:
    """The class of the activation `name`: the one class that its file defines. Raises ValueError for an
    unknown name."""
    if name not in names():
        raise ValueError(f"unknown activation {name!r}; the activations are {', '.join(names())}.")
    module = importlib.import_module(f"{__name__}.{name}")
    (found,) = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Activation)
        and value.__module__ == module.__name__
    ]
    return found
