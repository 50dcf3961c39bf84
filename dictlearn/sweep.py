"""Sweeps: a learner with a leading axis N. Many dictionaries, one program, one batch."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from dictlearn.sharding import TABLE, axis_size, is_split, platform
from dictlearn.types import Batch, Learner


class Sweep(NamedTuple):
    """A learner over a leading axis N of keys, hyperparameters and states; every member sees the same batch.

    init: (keys_N, hparams_N, batch) -> state_N. update: (state_N, hparams_N, batch) -> (state_N, info_N).
    variables: (state_N, hparams_N) -> the variables of the dictionaries, each leaf [N, ...].
    """

    init: Callable[[jax.Array, Any, Batch], Any]
    update: Callable[[Any, Any, Batch], tuple[Any, dict[str, jax.Array]]]
    variables: Callable[[Any, Any], dict]


def sweep(build: Callable[[Any], Learner]) -> Sweep:
    """The learners `build(hparams)` as one program.

    Members are updated side by side, by `vmap`. On one CPU device they are updated one after another, in a loop
    inside the program. Each member then takes its own branches, its loops are as long as its own k, and only
    one member's temporaries are held. No gather or scatter has a batch axis, for which XLA's CPU code is slow.
    Measured on 2 cores, D 512, F 4096, k 32, batch 2048: 0.69 of the processor time, and 0.16 of the
    temporaries of six members.

    Args:
        build: hparams -> Learner. It is called under the trace, with the hyperparameters of one member as
            tracers.

    Returns:
        A Sweep.

    Example:
        >>> import optax
        >>> from dictlearn import dictionaries, gradient, objectives
        >>> x_BD = jax.random.normal(jax.random.key(0), (8, 4))
        >>> module = dictionaries.make("topk", d_in=4, n_latents=16, k=2)
        >>> rates = sweep(lambda lr: gradient(module, objectives.make("fvu"), optax.adam(lr)))
        >>> keys_N = jax.random.split(jax.random.key(1), 3)
        >>> state_N = rates.init(keys_N, jnp.array([1e-4, 3e-4, 1e-3]), Batch(x_BD, x_BD))
        >>> state_N.variables["params"]["W_dec_FD"].shape
        (3, 16, 4)
    """
    axis = TABLE["N"]

    def init(key, hparams, batch):
        return build(hparams).init(key, batch)

    def one(state, hparams, batch):
        return build(hparams).update(state, batch)

    def variables(state, hparams):
        return build(hparams).variables(state)

    side_by_side = jax.vmap(one, in_axes=(0, 0, None), spmd_axis_name=axis)

    def in_turn(state, hparams, batch):
        return _in_turn(one, state, hparams, batch)

    def update(state, hparams, batch):
        if is_split() or axis_size(axis) > 1:
            return side_by_side(state, hparams, batch)
        # Where the mesh says what it is of, a learner is traced once and not for every platform.
        if known := platform():
            return (in_turn if known == "cpu" else side_by_side)(state, hparams, batch)
        return lax.platform_dependent(state, hparams, batch, cpu=in_turn, default=side_by_side)

    first = jax.vmap(init, in_axes=(0, 0, None), spmd_axis_name=axis)
    return Sweep(first, update, jax.vmap(variables, spmd_axis_name=axis))


def _in_turn(update, state, hparams, batch):
    n_members = len(jax.tree.leaves(state)[0])

    def one(state, turn):
        n, hparams = turn
        take = lambda: jax.tree.map(lambda a: lax.dynamic_index_in_dim(a, n, keepdims=False), state)
        none = lambda: jax.tree.map(lambda a: jnp.zeros(a.shape[1:], a.dtype), state)
        # This branch is always taken. Each reader of a slice outside a branch would recompute the slice, and
        # XLA would then copy the moments of all members in every iteration, as some are read after others
        # are written.
        own = lax.cond(n < n_members, take, none)
        new, info = update(own, hparams, batch)
        put = lambda all, one: lax.dynamic_update_index_in_dim(all, one, n, 0)
        return jax.tree.map(put, state, new), info

    return lax.scan(one, state, (jnp.arange(n_members), hparams))
