"""One run of a dictionary for all the tests that train it: tracing and compiling take longer than the steps."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from dictlearn import dictionaries, experiment, sharding
from tests.helpers import Drawn, mesh_of, opened, planted_config


def numpy(tree):
    """The same values in memory of their own: what a step was given is not there after it."""
    return jax.tree.map(lambda leaf: np.array(leaf), tree)


class Begun(NamedTuple):
    """A run before its first step, of which several tests take steps of their own."""

    drawn: Drawn
    program: experiment.Program
    update: Callable
    first: Any

    def steps(self, n, change=lambda first: first):
        """(state, infos) after n steps from `first`, as `change` makes it."""
        mesh, infos = mesh_of(1, 1, 1), []
        first = change(numpy(self.first))
        with jax.set_mesh(mesh):
            state = jax.device_put(first, sharding.shardings(first, mesh, lead="N"))
            for t in range(n):
                batch = self.drawn.batch(t, mesh)
                state, info = self.update(state, self.program.hparams, batch)
                infos.append(info)
        assert self.update._cache_size() == 1, "a second step compiled again"
        return jax.device_get((state, infos))


@functools.cache
def begun(name, **fields):
    rule = (
        {"rule": {"lr": 3e-3, "decay_fraction": 0.0}}
        if dictionaries.variant(name).learner == "gradient"
        else {}
    )
    config, mesh = planted_config(name, steps=300, dictionary=fields, **rule), mesh_of(1, 1, 1)
    with jax.set_mesh(mesh):
        drawn = opened(config)
        (program,) = experiment.programs(config, drawn.stream.d_in, None)
        state = experiment.init(program, drawn.batch(0, mesh), mesh)
        return Begun(drawn, program, experiment.update(program, state, mesh), numpy(state))
