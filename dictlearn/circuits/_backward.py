"""Rows of edges: what each source adds to targets, in one backward pass for a batch of targets.

A target injects its direction into the gradient at the layer and position that it reads. With patterns,
denominators and MLPs held constant a block is linear, so the gradient needs no forward pass. The gradient at
the output of an MLP, times what a source writes there, is the source's effect. A block is one compiled program
for all layers, and a batch of targets goes down only from its highest layer, over the positions up to its last.
The devices of a mesh share the targets of a batch, as they share tokens in training.

Axes: X targets of a batch, K sources of a layer and position; the others as in `local`.
"""

import functools
import math
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dictlearn import sharding
from dictlearn.circuits._places import WRITES
from dictlearn.circuits.local import Local
from dictlearn.lm import block as blocks
from dictlearn.lm.spec import Spec

STEP = 16
"""Positions are cut after a multiple of it, and sources of a position filled up to one, so that prompts share
programs."""


class Targets(NamedTuple):
    """Targets of a batch: the layers that they read (the number of layers for the last norm), the positions,
    and the directions."""

    layer_X: np.ndarray
    position_X: np.ndarray
    row_XD: np.ndarray


class Sources(NamedTuple):
    """What is written at one layer. vectors_TKD: at each position the error first, then the latents, then
    zeros. columns_TK: the columns of the edges; the number of columns for zeros."""

    vectors_TKD: jax.Array
    columns_TK: np.ndarray


def sources(local: Local) -> list[Sources]:
    """The sources of each layer, all of one shape: one program serves all layers."""
    n, (n_layers, length, width) = len(local.values_N), local.errors_LTD.shape
    counts = [
        np.bincount(local.latents_N3[own, 1], minlength=length).max(initial=0)
        for own, _ in local.atoms.values()
    ]
    most = -(-(1 + max(counts, default=0)) // STEP) * STEP
    found = []
    for layer in range(n_layers):
        vectors_TKD = np.zeros((length, most, width), local.errors_LTD.dtype)
        columns_TK = np.full((length, most), n + (n_layers + 1) * length)
        vectors_TKD[:, 0] = local.errors_LTD[layer]
        columns_TK[:, 0] = n + layer * length + np.arange(length)
        own, atoms_ND = local.atoms.get(layer, (np.zeros(0, int), np.zeros((0, width))))
        place_N = local.latents_N3[own, 1]
        rank_N = _ranked(place_N)
        vectors_TKD[place_N, 1 + rank_N] = local.values_N[own, None] * atoms_ND
        columns_TK[place_N, 1 + rank_N] = own
        found.append(Sources(jnp.asarray(vectors_TKD), columns_TK))
    return found


def _ranked(position_N: np.ndarray) -> np.ndarray:
    """The rank of each among those of the same position."""
    order = np.argsort(position_N, kind="stable")
    sorted_N, rank_N = position_N[order], np.empty(len(position_N), int)
    rank_N[order] = np.arange(len(order)) - np.searchsorted(sorted_N, sorted_N)
    return rank_N


class Backward:
    """The rows of the edges of one prompt. size: the number of targets of a pass. mesh: the devices that share
    them; None for one."""

    def __init__(self, local: Local, size: int, mesh: jax.sharding.Mesh | None = None):
        self.local, self.size, self.mesh = local, size, mesh
        self.spec: Spec = local.lm.spec
        self.sources = sources(local)
        none = np.zeros((self.spec.d_model,) * 2, local.errors_LTD.dtype)
        self.no_skip = none if local.skips else None
        self.held: dict[tuple[int, int], dict[str, jax.Array]] = {}
        self.columns = len(local.values_N) + (self.spec.n_layers + 1) * len(local.tokens_T)

    def many(self, targets: Targets) -> np.ndarray:
        """`rows` of any number of targets."""
        starts = range(0, len(targets.layer_X), self.size)
        parts = [Targets(*(part[i : i + self.size] for part in targets)) for i in starts]
        return np.concatenate([self.rows(part) for part in parts])

    def rows(self, targets: Targets) -> np.ndarray:
        """The effect of every source on each target, `[X, columns]`; at most `size` targets."""
        n, local, spec = len(targets.layer_X), self.local, self.spec
        length = min(-(-int(targets.position_X.max() + 1) // STEP) * STEP, len(local.tokens_T))
        full = lambda part: np.concatenate([part, np.repeat(part[:1], self._padded(n) - n, axis=0)])
        layer_X, position_X, row_XD = self._placed(*(full(np.asarray(part)) for part in targets))
        found_XC = np.zeros((len(layer_X), self.columns + 1), local.errors_LTD.dtype)
        g_XTD = jnp.zeros((len(layer_X), length, row_XD.shape[1]), row_XD.dtype)
        inject = lambda layer: _injected(layer_X == layer, position_X, row_XD, length)
        top = int(targets.layer_X.max())
        if top == spec.n_layers:
            leaves = {k: leaf for k, leaf in local.lm.params.items() if k.startswith("norm")}
            g_XTD = _from_norm(spec, leaves, _cut(local.held["norm"], length), inject(top))
        for layer in reversed(range(min(top + 1, spec.n_layers))):
            written = self.sources[layer]
            vectors_TKD = written.vectors_TKD[:length]
            held, block = self._held(layer, length), local.lm.params[f"block_{layer}"]
            skip = local.skips.get(layer, self.no_skip)
            down = _down(spec, local.read, block, held, skip, g_XTD, inject(layer), vectors_TKD)
            g_XTD, effect_XTK = down
            columns = written.columns_TK[:length].ravel()
            found_XC[:, columns] += np.asarray(effect_XTK).reshape(len(found_XC), -1)
        embed_TD = jnp.asarray(local.embed_TD[:length])
        start = self.columns - len(local.tokens_T)
        found_XC[:, start : start + length] = _contracted(g_XTD, embed_TD)
        return found_XC[:n, :-1]

    def _padded(self, n: int) -> int:
        """The number of targets in a program: a power of two, at most `size`, or a little more, so that devices
        have the same number."""
        ways = math.prod(self.mesh.shape.values()) if self.mesh else 1
        return -(-min(max(16, 1 << (n - 1).bit_length()), self.size) // ways) * ways

    def _placed(self, layer_X, position_X, row_XD) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Targets on the devices of the mesh."""
        parts = {"layer_B": layer_X, "position_B": position_X, "row_BD": row_XD}
        parts = jax.tree.map(jnp.asarray, parts)
        if self.mesh is not None:
            parts = jax.device_put(parts, sharding.shardings(parts, self.mesh))
        return parts["layer_B"], parts["position_B"], parts["row_BD"]

    def _held(self, layer: int, length: int) -> dict[str, jax.Array]:
        """The constants of a block, by their names without its layer, for the first positions."""
        if (layer, length) in self.held:
            return self.held[layer, length]
        end = f".{layer}"
        own = {
            name.removesuffix(end): value
            for name, value in self.local.held.items()
            if name.endswith(end) and not name.startswith("mlp.")
        }
        pattern = own.pop("pattern")
        cut = {name: _cut(value, length) for name, value in own.items()}
        cut["pattern"] = _cut_pattern(pattern, len(self.local.tokens_T), length)
        self.held[layer, length] = cut
        return cut


def _cut(value: jax.Array, length: int) -> jax.Array:
    return value[:, :length]


def _cut_pattern(pattern_1gxT: jax.Array, whole: int, length: int) -> jax.Array:
    n_groups = pattern_1gxT.shape[1]
    pattern = pattern_1gxT.reshape(1, n_groups, -1, whole, whole)[..., :length, :length]
    return pattern.reshape(1, n_groups, -1, length)


@functools.partial(jax.jit, static_argnums=3)
def _injected(on_X, position_X, row_XD, length: int) -> jax.Array:
    """The directions of the targets of a layer at their positions, `[X, T, D]`."""
    at_XT = on_X[:, None] & (position_X[:, None] == jnp.arange(length))
    return jnp.where(at_XT[..., None], row_XD[:, None], 0)


@functools.partial(jax.jit, static_argnums=0)
def _from_norm(spec: Spec, leaves, size_1T1, g_XTD) -> jax.Array:
    """The gradient before the last norm of a gradient after it."""
    normed = lambda x: blocks.norm(spec, leaves, "norm", "D", x, lambda _: size_1T1)
    return _pulled(normed, g_XTD[:, None], jnp.zeros_like(g_XTD[:1]))[0][:, 0]


@functools.partial(jax.jit, static_argnums=(0, 1))
def _down(spec: Spec, read: str, block, held: Mapping, skip_DD, g_XTD, injected_XTD, vectors_TKD):
    """(the gradient before a block, the effects `[X, T, K]` of what is written in it), of the gradient after it
    and of what is injected at the tap that the latents read."""

    def linear(x_1TD: jax.Array, out_1TD: jax.Array) -> tuple[jax.Array, jax.Array]:
        seen: dict[str, jax.Array] = {}

        def tap(name: str, activation: jax.Array) -> jax.Array:
            name = name.partition(".")[0]
            if name == WRITES:
                activation = out_1TD if skip_DD is None else out_1TD + seen[read] @ skip_DD.T
            seen[name] = activation
            return activation

        keep = lambda name, compute: held.get(name.partition(".")[0], jnp.zeros_like(x_1TD))
        return blocks.Block(spec, block, 0, tap, keep)(x_1TD), seen[read]

    zero_1TD = jnp.zeros_like(g_XTD[:1])
    given = (g_XTD[:, None], injected_XTD[:, None].astype(g_XTD.dtype))
    g_XTD, out_XTD = (one[:, 0] for one in _pulled(linear, given, zero_1TD, zero_1TD))
    return g_XTD, jnp.einsum("xtd,tkd->xtk", out_XTD, vectors_TKD)


def _pulled(function, given, *at: jax.Array) -> tuple[jax.Array, ...]:
    """The gradients of many cotangents at once. The constants of the function are not copied for each."""
    return jax.vmap(jax.vjp(function, *at)[1])(given)


@jax.jit
def _contracted(g_XTD: jax.Array, vectors_TD: jax.Array) -> jax.Array:
    return jnp.einsum("xtd,td->xt", g_XTD, vectors_TD)
