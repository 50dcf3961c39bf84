"""Evaluation of a run: its meters on held-out data, and its language models with reconstructions spliced in.

Where the config has the models of the rows, held-out documents pass through the models and their taps are
read. For the first `n_sequences` documents each model runs again with the reconstruction of each
dictionary at its taps. Otherwise the held-out batches of the stream are read. All values are measured in
the space of the raw activations; where each row is from one of several taps, in the space of the rows.
"""

import functools
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from dictlearn import lm as language
from dictlearn import meters, normalise, sharding, streams
from dictlearn.experiment import Program, models, values
from dictlearn.experiment import stream as experiment_stream
from dictlearn.experiment.models import SEQUENCES, Side, View
from dictlearn.experiment.programs import programs, set_up
from dictlearn.lm import splice
from dictlearn.meters import Logits, Reading, Subject
from dictlearn.runs.imported import imported
from dictlearn.runs.pursuit_encoder import Pursued, with_pursuit_encoders
from dictlearn.runs.tied import refuse_other_data
from dictlearn.runs.trained import Run, Trained, reconstruct, restore_run
from dictlearn.runs.workdir import write_records
from dictlearn.types import Batch, Meter

PURSUITS = "pursuits.json"
"""The file with the records of dictionaries with pursuit encoders."""


def check(config: Mapping, stream: streams.Stream, allow_changed: bool = False) -> None:
    """Raises ValueError if dictionaries trained on `stream` could not be evaluated as the config says."""
    models.check(config, stream, allow_changed)
    chosen, pursuits = config.get("meters") or {}, config.get("evaluate", {}).get("pursuits", ())
    d_out = experiment_stream.target_width(stream)
    for program in programs(config, stream.d_in, d_out) if chosen or pursuits else ():
        module = program.module_of(0)
        for name, own in chosen.items():
            meters.make(name, Subject(module), **own)
        for method in pursuits:
            set_up(Pursued(module.d_in, module.n_latents, module, method, 1))


def evaluate(
    config: Mapping,
    path: Path,
    progress: Callable[[int, int], None] | None = None,
    allow_changed: bool = False,
    dictionary: Trained | None = None,
) -> dict[str, dict]:
    """Evaluates every dictionary of a run, or one that was published, and writes `metrics.json`.

    Args:
        config: the config; `config["meters"]` is {NAME: settings} (by default, all meters that can be
            measured), `config["evaluate"]` holds arguments of `measure`.
        path: the workdir of the run.
        progress: called with (tokens done, tokens in total).
        allow_changed: whether the run is measured even on other data than it was trained on.
        dictionary: a published dictionary, measured instead of the run in `path`.

    Returns:
        {name: {"label", "hparams", METRIC: value, ..., "sides"}}. Where there are several models (or
        taps), `sides` is {label: {METRIC: value}} for each of them, and the other values are over all of
        them. The records of pursuit encoders are written to `pursuits.json` and are part of the result.

    Raises:
        ValueError: for other data than the run was trained on, naming what differs.
    """
    mesh = sharding.mesh(**config.get("mesh", {}))
    run = imported(dictionary, config, path) if dictionary else restore_run(path, mesh)
    run = run._replace(config=values.settled(config))
    settings = dict(config.get("evaluate", {}))
    found = measure(run, mesh, allow_changed, progress=progress, **settings)
    own = {name: record for name, record in found.items() if "encoder" not in record["hparams"]}
    write_records(path / "metrics.json", own)
    (path / PURSUITS).unlink(missing_ok=True)
    if len(found) > len(own):
        write_records(path / PURSUITS, {name: found[name] for name in found if name not in own})
    return found


def measure(
    run: Run,
    mesh,
    allow_changed: bool,
    *,
    n_tokens: int = 32_768,
    n_sequences: int = 32,
    pursuits: Sequence[str] = (),
    pursuit_k: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, dict]:
    """{name: record} of every dictionary of the run.

    mesh: the mesh of the run's variables; the language model runs on one device. allow_changed: see
    `evaluate`. n_tokens: the largest number of held-out tokens for reconstruction and firing (0 for all).
    n_sequences: the number of held-out sequences on which the loss of the spliced model is measured,
    rounded up to whole passes of SEQUENCES; 0 for none. pursuits: names of pursuits
    (pursuit_encoder.METHODS); every dictionary is also measured with each as its encoder, each token at the
    L0 of its own encoder but at most pursuit_k.
    """
    run = with_pursuit_encoders(run, pursuits, pursuit_k)
    loaded = {label: language.load(**own) for label, own in models.arguments(run.config).items()}
    origin = experiment_stream.origin(run.config, next(iter(loaded.values()), None))
    if origin and loaded:
        refuse_other_data(run.path, run.data, streams.fingerprint(origin), allow_changed)
        sides = models.sides(origin, loaded, allow_changed)
        records = _through_models(run, mesh, sides, n_tokens, n_sequences, progress)
    else:
        stream = experiment_stream.open_stream(run.config)
        refuse_other_data(run.path, run.data, stream.fingerprint, allow_changed)
        records = _through_stream(run, mesh, stream, n_tokens, progress)
    members = {m.name: m for program in run.programs for m in program.members}
    own = lambda m: {"label": m.label, "hparams": m.hparams}
    return {name: own(members[name]) | record for name, record in records.items()}


def _through_stream(run: Run, mesh, stream, n_tokens: int, progress) -> dict[str, dict]:
    size = run.config["batch_size"]
    held_out = models.held_out_rows(run.config, stream)
    n = max(1, min(len(held_out), n_tokens // size if n_tokens else sys.maxsize))
    chosen = models.chosen(run.config, stream, runs_model=False)
    totals = _Totals(run, mesh, chosen, stream.truth if stream.norm.mean_D is None else None)
    for t in range(n):
        batch = cast(Batch, held_out[t])
        short = size - len(batch.x_BD)
        x_BD, y_BD = (np.pad(a, ((0, short), (0, 0))) for a in (batch.x_BD, batch.y_BD))
        totals.add(x_BD, y_BD, np.arange(size) < len(batch.x_BD))
        if progress:
            progress((t + 1) * size, n * size)
    return totals.results()


def _through_models(
    run: Run, mesh, sides: Sequence[Side], n_tokens: int, n_sequences: int, progress
) -> dict[str, dict]:
    tokens_ST, mask_ST = models.held_out_sequences([side.origin for side in sides])
    for side in sides:
        side.lm.check_tokens(tokens_ST, f"The held-out text of {side.label or side.lm.name}")
    length = tokens_ST.shape[1]
    n_sequences = min(-(-n_sequences // SEQUENCES), len(tokens_ST) // SEQUENCES) * SEQUENCES
    n_read = min(len(tokens_ST), max(n_sequences, n_tokens // length or len(tokens_ST)))
    n_read = n_read // SEQUENCES * SEQUENCES
    totals = _Totals(run, mesh, models.chosen(run.config, None, runs_model=True))
    reads, views = [_reader(side) for side in sides], models.views(sides)
    splices = {
        view.label: [
            Splice(s.lm, at, totals.of_model) for s, at in zip(sides, view.written, strict=True)
        ]
        for view in views
    }
    for start in range(0, n_read, SEQUENCES):
        tokens, mask = (jnp.asarray(a[start : start + SEQUENCES]) for a in (tokens_ST, mask_ST))
        found = [read(side.lm.params, tokens) for read, side in zip(reads, sides, strict=True)]
        for view in views:
            x_BD, y_BD = (view.rows(found, taps) for taps in (view.read, view.written))
            yhats = totals.add(x_BD, y_BD, mask.reshape(-1), view.label)
            if start < n_sequences:
                _splice(totals, view, sides, splices[view.label], (tokens, mask), found, yhats)
        if progress:
            progress((start + SEQUENCES) * length, n_read * length)
    return totals.results()


def _reader(side: Side) -> Callable:
    names = tuple(dict.fromkeys((*side.origin.read, *side.origin.written)))

    def read(params, tokens):
        taps = side.lm.forward(params, tokens)[1]
        return {name: taps[name] for name in names}

    return jax.jit(read)


def _splice(totals: "_Totals", view: View, sides, splices, batch, found, yhats) -> None:
    """Splices each dictionary's part of each side into that side's model. found: the taps of each side."""
    y = [splice.side_by_side(*pair) for pair in zip(found, view.written, strict=True)]
    ends = np.cumsum([part.shape[-1] for part in y])[:-1]
    for n, (side, spliced) in enumerate(zip(sides, splices, strict=True)):
        spliced.begin(*batch, y[n])
        label = view.label or (side.label if len(sides) > 1 else "")
        for name, yhat_BD in yhats:
            part_BD = np.split(np.asarray(yhat_BD), ends, axis=-1)[n] / view.scale
            totals.count(name, spliced(part_BD.reshape(y[n].shape)), label)


class Splice:
    """The meters of the three runs of a language model. One compilation serves every dictionary, because the
    activations at the taps are an argument."""

    def __init__(self, lm: language.LM, taps: Sequence[str], chosen: Mapping[str, Meter]):
        at = functools.partial(splice.run, lm.forward, tuple(taps))

        def read(logits, original, tokens, mask):
            reading = Logits(logits, original, tokens, mask)
            return {name: meter.measure(reading) for name, meter in chosen.items()}

        self._params, self._read = lm.params, jax.jit(read)
        self._run = jax.jit(lambda *arguments: at(*arguments)[0])

    def begin(self, tokens, mask, y) -> None:
        """Starts a batch `[S, T]` whose activations at the taps, concatenated, are `y` `[S, T, D]`."""
        self._batch = self._params, tokens, mask, y
        self._original = self._run(*self._batch, y)
        ablated = self._run(*self._batch, jnp.zeros_like(y))
        self._fixed = {"original": self._sums(self._original), "ablated": self._sums(ablated)}

    def __call__(self, yhat) -> dict[str, dict]:
        """{meter: {run: sums}} with `yhat` `[S, T, D]` spliced in."""
        runs = {**self._fixed, "spliced": self._sums(self._run(*self._batch, yhat))}
        return {name: {run: sums[name] for run, sums in runs.items()} for name in runs["spliced"]}

    def _sums(self, logits):
        return self._read(logits, self._original, *self._batch[1:3])


class _Totals:
    """The meters of every dictionary of a run, each program in one vmapped pass: over all sides and views,
    and for each label."""

    def __init__(self, run: Run, mesh, chosen: Mapping[str, Mapping], truth_ND=None):
        self._run, self._mesh = run, mesh
        self._meters: dict[str, dict[str, Meter]] = {}
        for p in run.programs:
            for name, subject in _subjects(run, p, truth_ND):
                made = {key: meters.make(key, subject, **own) for key, own in chosen.items()}
                self._meters[name] = made
        whose = {key: meters.needs(key) == "model" for key in chosen}
        apart = lambda name, model: {
            k: m for k, m in self._meters[name].items() if whose[k] == model
        }
        self.of_model = apart(run.programs[0].key, True)
        self._passes = {p.key: _pass(p, run.norm, apart(p.key, False), mesh) for p in run.programs}
        self._totals: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in self._meters}

    def add(self, x_BD, y_BD, mask_B, label: str = "") -> list[tuple[str, Any]]:
        """Measures a batch of raw activations; returns (name, reconstruction) for each dictionary."""
        yhats, widths = [], (x_BD.shape[-1], y_BD.shape[-1])
        for p in self._run.programs:
            module = p.module_of(0)
            if (own := (module.d_in, module.d_out or module.d_in)) != widths:
                raise ValueError(f"{p.key} reads and writes widths {own}, the rows have {widths}.")
            variables = self._run.variables[p.key]
            with jax.set_mesh(self._mesh):
                yhat_NBD, sums = self._passes[p.key](variables, p.hparams, x_BD, y_BD, mask_B)
            sums = jax.device_get(sums)
            for n, member in enumerate(p.members):
                self.count(member.name, jax.tree.map(lambda leaf, n=n: leaf[n], sums), label)
                yhats.append((member.name, yhat_NBD[n]))
        return yhats

    def count(self, member: str, sums: Mapping[str, Any], label: str) -> None:
        """Adds {meter: sums} to the totals of a dictionary, and to the totals of a label if there is one."""
        for side in dict.fromkeys(("", label)):
            totals = self._totals[member].setdefault(side, {})
            for name, own in sums.items():
                meter = self._meters[member][name]
                totals[name] = meter.update(totals.get(name, meter.init()), own)

    def results(self) -> dict[str, dict]:
        """{name: {metric: value}}; `sides` holds the values of each label."""
        return {name: self._result(name, sides) for name, sides in self._totals.items()}

    def _result(self, member: str, totals: Mapping[str, Mapping[str, Any]]) -> dict:
        result = lambda name, total: self._meters[member][name].result(total).items()
        found = {
            side: {k: v for name, total in own.items() for k, v in result(name, total)}
            for side, own in totals.items()
        }
        whole = found.pop("")
        return {**whole, "sides": found} if found else whole


def _subjects(run: Run, program: Program, truth_ND) -> Iterable[tuple[str, Subject]]:
    """(name, subject) of each dictionary of a program; with its atoms if there are planted atoms."""
    atoms_NFD = run.variables[program.key]["params"].get("W_dec_FD")
    if truth_ND is not None and atoms_NFD is not None:
        atoms_NFD = multihost_utils.process_allgather(atoms_NFD, tiled=True)
    for n, member in enumerate(program.members):
        known = None if truth_ND is None or atoms_NFD is None else atoms_NFD[n]
        yield member.name, Subject(program.module_of(n), known, truth_ND)


def _pass(program: Program, norm: normalise.Norm, chosen: Mapping[str, Meter], mesh) -> Callable:
    def one(variables, hparams, x_BD, y_BD, mask_B):
        yhat_BD, codes = reconstruct(program.module(hparams), norm, variables, x_BD)
        reading = Reading(y_BD, yhat_BD, codes, mask_B)
        return yhat_BD, {name: meter.measure(reading) for name, meter in chosen.items()}

    axis = sharding.TABLE["N"]
    every = jax.vmap(one, in_axes=(0, 0, None, None, None), spmd_axis_name=axis)
    return jax.jit(every, out_shardings=sharding.everywhere(mesh))
