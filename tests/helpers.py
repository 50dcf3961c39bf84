"""Small things that several tests share."""

import jax
import numpy as np
from jax.sharding import AxisType

from dictlearn import dictionaries, experiment, sharding, streams
from dictlearn.experiment.stream import carried, open_stream, target_width
from dictlearn.ops.recovery import recovery as recovery
from dictlearn.streams._place import place

AXES = ("sweep", "data", "model")


def mesh_of(sweep: int, data: int, model: int):
    """A mesh over the first devices, as many as asked for."""
    devices = jax.devices()[: sweep * data * model]
    return jax.make_mesh((sweep, data, model), AXES, (AxisType.Auto,) * 3, devices=devices)


SIZES = {"k": 3, "aux_k": 8, "sparsity": 0.1}
"""Values for hyperparameters that a variant may have, by name; a variant takes those it knows."""


def planted_config(name: str = "topk", **changes) -> dict:
    """P1 small with one dictionary of 64 latents; keys of `changes` replace or join subtrees."""
    known = dictionaries.fields(name, changes.get("dictionary", {}).get("activation"))
    learner = dictionaries.variant(name).learner
    config = {
        "seed": 0,
        "steps": 10,
        "batch_size": 128,
        "stream": {"name": "synthetic", "kind": "p1"},
        "dictionary": {"name": name, **{k: v for k, v in SIZES.items() if k in known}},
        "objective": {"name": "squared_error"},
        "rule": {"name": "adam", "lr": 1e-3, "warmup_steps": 1},
        "learner": {"dead_after": 300, "b_dec_start": "mean"},
    }
    config["dictionary"]["n_latents"] = 64
    if learner == "itda":
        config = {key: config[key] for key in config if key not in ("objective", "rule")}
        config["learner"] = {"name": "itda", "tolerance": 0.2}
    for key, value in changes.items():
        old = config.get(key)
        config[key] = {**old, **value} if isinstance(old, dict) else value
    return config


def cast(tree, dtype):
    """The tree with its floating-point leaves in this dtype."""
    to = lambda a: a.astype(dtype) if np.issubdtype(a.dtype, np.floating) else a
    return jax.tree.map(to, tree)


class Drawn:
    """A stream, and its batches on devices: drawing one takes longer than a small step, and dictionaries
    are often trained on the same ones."""

    KEPT = 2**26
    """Bytes of batches that are kept."""

    def __init__(self, stream: streams.Stream):
        self.stream, self.kept, self.size = stream, {}, 0

    def batch(self, t: int, mesh, dtype=np.float32):
        key = (t, mesh, dtype)
        if key in self.kept:
            return self.kept[key]
        batch = place(cast(self.stream.batches[t], dtype), mesh)
        self.size += sum(leaf.nbytes for leaf in jax.tree.leaves(batch))
        if self.size <= self.KEPT:
            self.kept[key] = batch
        return batch


LAST: dict[str, Drawn] = {}
"""The synthetic stream that was opened last. Only these are the same whenever their arguments are."""


def opened(config: dict) -> Drawn:
    """The stream of a config."""
    if config["stream"]["name"] != "synthetic":
        return Drawn(open_stream(config))
    key = repr((config["stream"], config["seed"], config["batch_size"], sorted(carried(config))))
    if key not in LAST:
        LAST.clear()
        LAST[key] = Drawn(open_stream(config))
    return LAST[key]


def run(config: dict, n_steps: int, mesh=None, dtype=np.float32, start=None):
    """(programs, final states, infos of every step) after `n_steps` on `mesh` (default: one device).
    dtype: float64, under `jax.enable_x64`, makes the state and the batches doubles.
    start: states to continue from, by program, instead of `init`'s."""
    mesh = mesh or mesh_of(1, 1, 1)
    with jax.set_mesh(mesh):
        drawn = opened(config)
        programs = experiment.programs(config, drawn.stream.d_in, target_width(drawn.stream))
        sample = drawn.batch(0, mesh, dtype)
        states, infos, updates = {}, [], {}
        for p in programs:
            first = start[p.key] if start else experiment.init(p, sample, mesh)
            first = cast(first, dtype)
            states[p.key] = jax.device_put(first, sharding.shardings(first, mesh, lead="N"))
            updates[p.key] = experiment.update(p, states[p.key], mesh)
        for t in range(n_steps):
            batch, info = drawn.batch(t, mesh, dtype), {}
            for p in programs:
                states[p.key], info[p.key] = updates[p.key](states[p.key], p.hparams, batch)
            infos.append(jax.block_until_ready(info) if mesh.size > 1 else info)
        for update in updates.values():
            assert update._cache_size() <= 1, "a second step compiled again"
        return programs, jax.device_get(states), jax.device_get(infos)


def truth(config: dict) -> np.ndarray:
    """The planted atoms of a config's stream."""
    stream = {
        **config["stream"],
        "normalise": "none",
    }  # estimating one reads a hundred thousand rows
    return streams.make(batch_size=1, seed=config["seed"], **stream).truth
