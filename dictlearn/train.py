"""The loop: every program of an experiment over one stream, with checkpoints that resume exactly.

A checkpoint holds the state of every learner, the step, the config, the normalisation and the versions.
The batch of a step is a pure function of the stream's seed and the step, and nothing that is logged is read
back, so a run that was killed at any moment and resumed is bit for bit the run that was not.
"""

import contextlib
import dataclasses
import inspect
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

import jax
import numpy as np

from dictlearn import dictionaries, experiment, fold, learners, objectives, sharding, streams
from dictlearn import lm as language
from dictlearn.checkpoint import Checkpoints, versions
from dictlearn.normalise import Norm
from dictlearn.streams import Stream
from dictlearn.streams.from_lm import from_lm
from dictlearn.streams.sequences import sequences
from dictlearn.streams.store import store
from dictlearn.trained import restore_run
from dictlearn.types import Batch
from dictlearn.workdir import Log, flat, plain, write_json

MAY_CHANGE = ("steps", "checkpoint_every", "log_every", "meters", "mesh", "harvest", "model")
"""What a run that goes on may be given anew; all else must be as the checkpoint has it."""

ALIKE = {"store": store, "from_lm": from_lm, "sequences": sequences}
"""Streams of a language model's activations. What only another of them reads is left out, so that one
word of a config changes one into another; an objective that runs the model makes `from_lm` `sequences`."""

INIT_TOKENS = 32_768
"""Tokens of the sample that a learner's `init` sees (its decoder bias starts at their median)."""


class Stopped(Exception):
    """The run was asked to end (SIGTERM) and did, with a checkpoint at `step`."""

    def __init__(self, step: int):
        super().__init__(f"stopped at step {step}; the same command goes on from there.")
        self.step = step


def open_stream(config: Mapping) -> Stream:
    """The experiment's stream, its batches and seed as the top level says; `from_lm` with the model and
    the harvest of the config; both with all that `carried` says."""
    if "name" not in config.get("stream", {}):
        raise ValueError(f"config.stream.name is missing; there are {', '.join(streams.names())}.")
    filled = {"batch_size": config["batch_size"], "seed": config["seed"]}
    arguments, more = filled | dict(config["stream"]), carried(config)
    if "context" in more:
        if arguments["name"] != "from_lm":
            raise ValueError(
                f"config.objective runs the language model, and the stream {arguments['name']!r} has "
                "none; set stream.name to from_lm."
            )
        arguments["name"] = "sequences"
    if arguments["name"] in ALIKE:
        known = {name: set(inspect.signature(make).parameters) for name, make in ALIKE.items()}
        others = set.union(*known.values()) - known[arguments["name"]] - {"lm", "recipe"}
        arguments = {key: value for key, value in arguments.items() if key not in others}
    if arguments["name"] in ("from_lm", "sequences"):
        for name in ("model", "harvest"):
            if name not in config:
                raise ValueError(f"config.{name} is missing; the stream from_lm needs it.")
        arguments["lm"] = language.load(**config["model"])
        arguments["recipe"] = {"seed": config["seed"], **config["harvest"]}
    arguments |= dict.fromkeys(more - {"context"}, True)
    return streams.make(**arguments)


def carried(config: Mapping) -> set[str]:
    """What batches must carry beside x and y: "keys" for a learner, "gradients" for a dictionary,
    "context" for an objective."""
    found = set()
    for _, block in experiment.blocks(config):
        variant = dictionaries.variant(block["dictionary"]["name"])
        wanted = {
            "keys": learners.reads_keys(experiment.learner_name(block)),
            "gradients": getattr(variant, "reads_gradient", False),
            "context": block.get("objective", {}).get("name") in objectives.RUNS_MODEL,
        }
        found |= {name for name, is_wanted in wanted.items() if is_wanted}
    return found


def target_width(stream: Stream) -> int | None:
    """d_out of a transcoder; None for an autoencoder, whose targets are its inputs."""
    first = stream.batch(0)
    return None if first.y_BD is first.x_BD else stream.d_out


def train(config: Mapping, path: Path, progress: Callable[[int, int], None] | None = None) -> None:
    """Trains, or goes on training, everything in `config` to `config["steps"]`, in the workdir `path`.

    progress: called with (tokens done, tokens in all). Raises ValueError for a config that does not fit
    the run that `path` holds, and `Stopped` after SIGTERM."""
    experiment.check(config)
    path.mkdir(parents=True, exist_ok=True)
    mesh = sharding.mesh(**config.get("mesh", {}))
    with Checkpoints(path / "checkpoints") as checkpoints, jax.set_mesh(mesh):
        stream = open_stream(config)
        d_out = target_width(stream)
        programs = experiment.programs(config, stream.d_in, d_out)
        start, states = _start(config, path, checkpoints, stream, programs, mesh)
        write_json(path / "config.json", plain(config))
        meta = {"config": plain(config), "norm": asdict(stream.norm), "versions": versions()}
        meta |= {"d_in": stream.d_in, "d_out": d_out}
        _loop(config, path, checkpoints, stream, programs, mesh, start, states, meta, progress)


def _loop(config, path, checkpoints, stream, programs, mesh, start, states, meta, progress) -> None:
    log, size, steps = Log(path / "metrics.jsonl", start), config["batch_size"], config["steps"]
    updates = {p.key: experiment.update(p, states[p.key], mesh) for p in programs}
    batches = streams.read(stream, start)
    # Host devices share one thread pool: programs whose collectives are in flight together can starve
    # each other of it until the runtime gives up. Real devices, and one device, never wait here.
    one_at_a_time = mesh.size > 1 and jax.default_backend() == "cpu"
    with _asked_to_stop() as asked:
        for done in range(start + 1, steps + 1):
            batch, infos = place(next(batches), mesh), []
            for p in programs:
                states[p.key], info = updates[p.key](states[p.key], p.hparams, batch)
                infos.append(([member.name for member in p.members], info))
                if one_at_a_time:
                    jax.block_until_ready(info)
            stop, last = asked.is_set(), done == steps
            if last or done % config.get("log_every", 50) == 0:
                log.take(done, done * size, infos)
            if stop or last or done % config.get("checkpoint_every", 1000) == 0:
                log.flush()
                checkpoints.save(done, states, {**meta, "step": done})
            if progress:
                progress(done * size, steps * size)
            if stop and not last:
                checkpoints.wait()
                raise Stopped(done)


def _start(config, path: Path, checkpoints: Checkpoints, stream, programs, mesh):
    """(step, states) of the newest checkpoint, or of a new run."""

    def target(meta):
        _refuse_other(config, path, meta)
        return experiment.abstract_states(programs, meta["d_in"], meta["d_out"], mesh)

    restored = checkpoints.restore(target)
    if restored is not None:
        return restored[:2]
    sample = _sample(stream, mesh)
    states = {p.key: experiment.init(p, sample, mesh) for p in programs}
    if config.get("start"):
        states = begin_from(states, stream.norm, mesh, **config["start"])
    return 0, states


def begin_from(states: dict, norm: Norm, mesh, workdir: str, program: str | None = None) -> dict:
    """`states` of a new run with the variables of the dictionaries of `workdir`, as they are under `norm`:
    moments and counts begin anew. Each program starts from that of its name or, if it is given, all from
    `program`.

    Raises ValueError for a program that the run in `workdir` has not, for other shapes, and for another kind
    of normalisation."""
    run = restore_run(workdir, mesh)
    if run.norm.kind != norm.kind or norm.mean:
        raise ValueError(
            f"{workdir} was trained under {run.norm.kind}, which cannot become {norm.kind}; set "
            "stream.normalise to that kind, and to one that is a number."
        )
    ratios = (run.norm.scale_in / norm.scale_in, run.norm.scale_out / norm.scale_out)
    change = dataclasses.replace(norm, scale_in=ratios[0], scale_out=ratios[1])
    first = lambda p: {name: value[0] for name, value in p.hparams.items()}
    modules = {p.key: p.module(first(p)) for p in run.programs}
    found = {}
    for key, state in states.items():
        source = program or key
        if source not in modules:
            raise ValueError(
                f"{workdir} holds {', '.join(modules)}; there is no {source} to start from. "
                "start.program takes the name of one of them."
            )
        old = fold.raw(change, modules[source], run.variables[source])
        shapes = [jax.tree.map(lambda leaf: leaf.shape, tree) for tree in (old, state.variables)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"{source} of {workdir} has shapes {shapes[0]}, not {shapes[1]}.")
        placed = sharding.shardings(state.variables, mesh, lead="N")
        # Copies: programs that start from the same dictionaries each give theirs away at their first step.
        found[key] = state._replace(variables=jax.device_put(old, placed, may_alias=False))
    return found


def place(batch: Batch, mesh) -> Batch:
    """A process's share of a batch as global arrays on `mesh`; y stays x where it is x."""
    same = batch.y_BD is batch.x_BD
    parts = batch._replace(y_BD=None) if same else batch
    if batch.context is not None:
        parts = parts._replace(context=dataclasses.replace(batch.context, params=None))
    placed = sharding.shardings(jax.tree.map(lambda a: np.broadcast_to(0, a.shape), parts), mesh)
    found = jax.tree.map(jax.make_array_from_process_local_data, placed, parts)
    if batch.context is not None:
        whole = dataclasses.replace(found.context, params=batch.context.params)
        found = found._replace(context=whole)
    return found._replace(y_BD=found.x_BD) if same else found


def _sample(stream: Stream, mesh) -> Batch:
    """The stream's first batches, INIT_TOKENS of them or one epoch."""
    rows = INIT_TOKENS if stream.n_rows is None else min(INIT_TOKENS, stream.n_rows)
    first = stream.batch(0)
    n = max(1, rows // len(first.x_BD) // jax.process_count())
    batches = [first, *(stream.batch(t) for t in range(1, n))]
    x_BD = np.concatenate([batch.x_BD for batch in batches])
    if first.y_BD is first.x_BD:
        return place(Batch(x_BD, x_BD), mesh)
    return place(Batch(x_BD, np.concatenate([batch.y_BD for batch in batches])), mesh)


def _refuse_other(config: Mapping, path: Path, meta: Mapping) -> None:
    """Raises ValueError if the checkpoint is of another run, or past the end of this one."""
    was, now = dict(flat(meta["config"])), dict(flat(plain(config)))
    fixed = ("harvest", "model") if config["stream"]["name"] == "from_lm" else ()
    for key in sorted(was.keys() | now.keys()):
        top = key.split(".")[0]
        if (top in fixed or top not in MAY_CHANGE) and was.get(key) != now.get(key):
            raise ValueError(
                f"{path} holds a run with {key}={was.get(key)!r}, not {now.get(key)!r}; "
                "give another --workdir, or the config it was run with."
            )
    if meta["step"] > config["steps"]:
        raise ValueError(
            f"{path} is at step {meta['step']}, past steps={config['steps']}; give another --workdir."
        )


@contextlib.contextmanager
def _asked_to_stop() -> Iterator[threading.Event]:
    """An event that SIGTERM sets, while the block runs in the main thread."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = signal.signal(signal.SIGTERM, lambda *_: asked.set())
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, before)
