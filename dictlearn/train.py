"""The training loop: every program of an experiment over one stream, with checkpoints that resume exactly.

A checkpoint holds the state of every learner, the step, the config, the normalisation and the versions.
The batch of a step is a pure function of the stream's seed and the step, and nothing that is logged is read
back. So a run that was killed and resumed equals an undisturbed run to the bit.
"""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from dictlearn import experiment, interop, normalise, sharding, streams
from dictlearn.experiment import values
from dictlearn.experiment.stream import open_stream, target_width
from dictlearn.runs import _heap
from dictlearn.runs.checkpoint import Checkpoints, versions
from dictlearn.runs.owner import owned
from dictlearn.runs.places import found, is_place, kept, same, write_config
from dictlearn.runs.signals import Asked
from dictlearn.runs.tied import refuse_other_data
from dictlearn.runs.trained import Site, abstract
from dictlearn.runs.warm_start import of_run, of_trained, warm_start
from dictlearn.runs.workdir import Log, flat, write_json
from dictlearn.streams import Stream
from dictlearn.streams._place import place, sample

MAY_CHANGE = (
    "steps",
    "checkpoint_every",
    "log_every",
    "evaluate",
    "meters",
    "analyses",
    "budget",
    "mesh",
    "harvest",
    "model",
    "models",
)
"""The config keys that may change on resume; a change of any other key is an error."""


class Stopped(Exception):
    """The run ended on request (SIGTERM, or Ctrl-C: `interrupted`), with a checkpoint at `step`."""

    def __init__(self, step: int, interrupted: bool = False):
        super().__init__(f"stopped at step {step}; the same command resumes from there.")
        self.step, self.interrupted = step, interrupted


class Diverged(RuntimeError):
    """A dictionary skipped more steps than its learner allows: their loss or gradient was not finite."""


def train(
    config: Mapping,
    path: Path,
    progress: Callable[[int, int], None] | None = None,
    allow_changed: bool = False,
    opened: Callable[[Stream], None] | None = None,
) -> None:
    """Trains all dictionaries of a config, or resumes their training, each up to its number of steps.

    Args:
        config: the config of the experiment.
        path: the workdir.
        progress: called with (tokens done, tokens in total).
        allow_changed: whether the run in `path` resumes even if its config or its data was different.
        opened: called with the stream before training starts; it may raise to refuse the stream.

    Raises:
        ValueError: for a config or data that do not match the run in `path`, naming what differs.
        InUse: while another process trains in `path`.
        Stopped: after SIGTERM.
        Diverged: where a learner skipped too many steps.
    """
    config = values.settled(config)
    experiment.check(config)
    mesh = sharding.mesh(**config.get("mesh", {}))
    with Asked() as asked, jax.set_mesh(mesh):
        stream = open_stream(config, sharding.share(mesh))
        if opened:
            opened(stream)
        programs = experiment.programs(config, stream.d_in, target_width(stream))
        with owned(path, "dictlearn train"), Checkpoints(path / "checkpoints") as checkpoints:
            run = _Session(config, path, mesh, stream, programs, checkpoints, asked)
            start, states = _start(run, allow_changed)
            write_config(config, path)
            _loop(run, start, states, progress)


class _Session(NamedTuple):
    """The objects of a run from its first step to its last."""

    config: Mapping
    path: Path
    mesh: jax.sharding.Mesh
    stream: streams.Stream
    programs: list[experiment.Program]
    checkpoints: Checkpoints
    asked: Asked


def _loop(run: _Session, start: int, states: dict, progress: Callable | None) -> None:
    config, size = run.config, run.config["batch_size"]
    ends = {p.steps for p in run.programs}
    steps = max(ends)
    log, save = Log(run.path / "metrics.jsonl", start), _saver(run)
    updates = {p.key: experiment.update(p, states[p.key], run.mesh) for p in run.programs}
    batches = streams.read(run.stream, start)
    # Host devices share one thread pool: programs with collectives in flight at the same time can block each
    # other until the runtime gives up. Accelerators, and a single device, never wait here.
    one_at_a_time = run.mesh.size > 1 and jax.default_backend() == "cpu"
    run.asked.in_order = True
    for done in range(start + 1, steps + 1):
        batch, infos = place(next(batches), run.mesh), []
        for p in [p for p in run.programs if done <= p.steps]:
            states[p.key], info = updates[p.key](states[p.key], p.hparams, batch)
            infos.append(([member.name for member in p.members], info))
            if one_at_a_time:
                jax.block_until_ready(info)
        stop, last = run.asked(done), done == steps
        if done in ends or done % config.get("log_every", 50) == 0:
            _refuse_diverged(config, run.path, log.take(done, done * size, infos))
        if stop or last or done % config.get("checkpoint_every", 1000) == 0:
            _refuse_diverged(config, run.path, log.flush())
            save(done, states)
            _heap.trim()
        if progress:
            progress(done * size, steps * size)
        if stop and not last:
            run.checkpoints.wait()
            raise Stopped(done, run.asked.interrupted)


def _saver(run: _Session) -> Callable[[int, dict], None]:
    """A function that writes the checkpoint of a step: the states, the normalisation, and their metadata."""
    norm = normalise.arrays(run.stream.norm)
    shapes = {name: list(leaf.shape) for name, leaf in norm.items()}
    meta = {"config": kept(run.config, run.path), "versions": versions(), "d_in": run.stream.d_in}
    meta |= {"data": run.stream.fingerprint}
    sites = [
        values.to_json(Site.at(origin)._asdict(), "site") for origin in run.stream.origin or ()
    ]
    meta |= {"d_out": target_width(run.stream), "sites": sites}
    # The scales are among the arrays; they are repeated for readers of the record without its arrays.
    scales = {name: norm[name].tolist() for name in ("scale_in", "scale_out")}
    meta |= {"norm": {"kind": run.stream.norm.kind, "shapes": shapes, **scales}}
    norm = jax.device_put(norm, sharding.everywhere(run.mesh))
    return lambda done, states: run.checkpoints.save(done, (states, norm), {**meta, "step": done})


def _refuse_diverged(config: Mapping, path: Path, line: Mapping) -> None:
    """Raises `Diverged` if a dictionary gave up by this line of the log, and writes `bad_batch.json`."""
    gave_up = {
        name: info for name, info in line.items() if isinstance(info, dict) and info.get("give_up")
    }
    for name, info in gave_up.items():
        address = {"dictionary": name, "batch": info["bad_batch"], "seed": config["seed"]}
        write_json(path / "bad_batch.json", address | {"skipped": info["skipped"]})
        raise Diverged(
            f"{name} skipped {info['skipped']} steps whose loss or gradient was not finite, more than its "
            f"learner's max_skipped. The last one read batch {info['bad_batch']} of the stream with seed "
            f"{config['seed']} ({path / 'bad_batch.json'}): inspect that batch, lower rule.lr, or raise "
            "learner.max_skipped."
        )


def _start(run: _Session, allow_changed: bool) -> tuple[int, dict]:
    """(step, states by program) of the newest checkpoint, or of a new run."""

    def target(meta):
        _refuse_other(run.config, run.path, meta, allow_changed)
        refuse_other_data(run.path, meta["data"], run.stream.fingerprint, allow_changed)
        return abstract(run.programs, meta, run.mesh)

    restored = run.checkpoints.restore(target)
    run.checkpoints.tidy()
    if restored is not None:
        step, (states, _), _ = restored
        return step, states
    first = sample(run.stream, run.mesh)
    states = {p.key: experiment.init(p, first, run.mesh) for p in run.programs}
    if run.config.get("start"):
        states = _begun(run, states, **run.config["start"])
    return 0, states


def _begun(
    run: _Session, states: dict, workdir: str = "", path: str = "", program: str | None = None
) -> dict:
    """The states with the dictionaries of `config.start`."""
    known = of_trained(interop.load(path), path, run.mesh) if path else of_run(workdir, run.mesh)
    return warm_start(states, run.stream.norm, run.mesh, known, program)


def changes(was: Mapping, now: Mapping) -> list[str]:
    """A phrase for each key of a run's config that has changed and may not change on resume."""
    before, after = dict(flat(was)), dict(flat(now))
    stream = now.get("stream", {}).get("name")
    fixed = ("harvest", "model") if stream and streams.runs_model(stream) else ()
    listed = []
    for key in sorted(before.keys() | after.keys()):
        old, new, top = before.get(key), after.get(key), key.split(".")[0]
        if (top in fixed or top not in MAY_CHANGE) and not _same(key, old, new):
            listed.append(f"{key}={old!r}, not {new!r}")
    return listed


def _refuse_other(config: Mapping, path: Path, meta: Mapping, allow_changed: bool) -> None:
    """Raises ValueError if the checkpoint is from another run, unless that is allowed, or if it is past the
    last step. All differences are listed in both cases."""
    changed = changes(found(meta["config"], path), config)
    if changed and not allow_changed:
        raise ValueError(
            f"{path} holds a run with {'; '.join(changed)}; give another --workdir, the config of that "
            "run, or --allow_changed to resume with the new config."
        )
    if changed:
        warning = "%s resumes with a changed config; it was run with %s."
        logging.getLogger("dictlearn").warning(warning, path, "; ".join(changed))
    if meta["step"] > config["steps"]:
        raise ValueError(
            f"{path} is at step {meta['step']}, past steps={config['steps']}; give another --workdir."
        )


def _same(key: str, was: Any, now: Any) -> bool:
    """Whether a value of the config is unchanged. Where data lies does not matter: its fingerprint does."""
    if not is_place(key):
        return values.same(was, now)
    return key.split(".")[0] in ("stream", "model", "harvest") or same(was, now)
