"""Evaluation of a run: meters over held-out data, and the language model with reconstructions spliced in.

With a language model, held-out documents pass through it, the tap is read, and for the first `n_sequences`
of them the model runs again with each dictionary's reconstruction in the tap's place. Without one, the
stream's own held-out batches are read, and planted atoms are looked for among the dictionary's. Everything is
measured in the space of the raw activations.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from dictlearn import lm as language
from dictlearn import normalise, sharding, streams
from dictlearn.experiment import Program
from dictlearn.lm.text import Packed
from dictlearn.meters import Reading, firing, loss_recovered, reconstruction
from dictlearn.ops.recovery import recovery
from dictlearn.runs.pursuit_encoder import beside
from dictlearn.runs.trained import Run, reconstruct, restore_run
from dictlearn.runs.workdir import plain, write_json
from dictlearn.streams import _taps, store
from dictlearn.streams._source import Recipe, Source
from dictlearn.types import Batch, Meter

SEQUENCES = 8
"""Sequences to one pass of the language model."""

PURSUITS = "pursuits.json"
"""The records of dictionaries under another encoder, beside `metrics.json`."""

RECOVERED_AT = (0.8, 0.9, 0.95)
"""Cosines at which a planted atom counts as found."""


def evaluate(
    config: Mapping, path: Path, progress: Callable[[int, int], None] | None = None
) -> dict[str, dict]:
    """Evaluates every dictionary of the run in `path` as `config["meters"]` says (see `measure`), writes
    `metrics.json` and returns it: {name: {"label", "hparams", METRIC: value}}. What pursuits make of the same
    atoms stands in `pursuits.json` and is returned with it.

    progress: called with (tokens done, tokens in all)."""
    mesh = sharding.mesh(**config.get("mesh", {}))
    run = restore_run(path, mesh)
    was, now = run.config, plain(config)
    for name in ("model", "harvest") if was["stream"]["name"] == "from_lm" else ():
        if was.get(name) != now.get(name):
            raise ValueError(
                f"{path} was trained from_lm with config.{name}={was.get(name)}, not {now.get(name)}."
            )
    run = run._replace(config=now)
    found = measure(run, mesh, progress=progress, **dict(config.get("meters", {})))
    own = {name: record for name, record in found.items() if "encoder" not in record["hparams"]}
    write_json(path / "metrics.json", own)
    (path / PURSUITS).unlink(missing_ok=True)
    if len(found) > len(own):
        write_json(path / PURSUITS, {name: found[name] for name in found if name not in own})
    return found


def measure(
    run: Run,
    mesh,
    *,
    n_tokens: int = 32_768,
    n_sequences: int = 32,
    pursuits: Sequence[str] = (),
    pursuit_k: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, dict]:
    """mesh: where the run's variables lie; the language model runs on one device.
    n_tokens: held-out tokens for reconstruction and firing, at most (0 for as many as there are).
    n_sequences: held-out sequences on which the spliced model's loss is measured, rounded up to whole
    passes of SEQUENCES; 0 for none.
    pursuits: names of pursuits (pursued.METHODS), each of which every dictionary is measured under once more,
    a token at as many latents as its own encoder has active, pursuit_k at most."""
    run = beside(run, pursuits, pursuit_k)
    model = run.config.get("model")
    if model and run.config["stream"]["name"] in ("store", "from_lm"):
        records = _through_model(run, mesh, language.load(**model), n_tokens, n_sequences, progress)
    else:
        records = _through_stream(run, mesh, n_tokens, progress)
    members = {m.name: m for program in run.programs for m in program.members}
    own = lambda m: {"label": m.label, "hparams": m.hparams}
    return {name: own(members[name]) | record for name, record in records.items()}


def _through_stream(run: Run, mesh, n_tokens: int, progress) -> dict[str, dict]:
    size = run.config["batch_size"]
    stream = streams.make(
        **({"batch_size": size, "seed": run.config["seed"]} | run.config["stream"])
    )
    if not stream.held_out:
        raise ValueError(
            f"the stream {run.config['stream']['name']!r} holds nothing out to evaluate on; "
            "set config.stream.held_out, or config.model for a store."
        )
    n = max(1, min(len(stream.held_out), n_tokens // size if n_tokens else sys.maxsize))
    totals = _Totals(run, mesh)
    for t in range(n):
        batch = cast(Batch, stream.held_out[t])
        short = size - len(batch.x_BD)
        x_BD, y_BD = (np.pad(a, ((0, short), (0, 0))) for a in (batch.x_BD, batch.y_BD))
        totals.add(x_BD, y_BD, np.arange(size) < len(batch.x_BD))
        if progress:
            progress((t + 1) * size, n * size)
    records = totals.results()
    if stream.truth is not None and stream.norm.kind != "whiten":
        for name, atoms_FD in _atoms(run):
            found = {
                f"recovery_{tau}": recovery(stream.truth, atoms_FD, tau) for tau in RECOVERED_AT
            }
            records[name] |= found
    return records


def _atoms(run: Run) -> list[tuple[str, Any]]:
    """(name, W_dec_FD) of the dictionaries that have it."""
    found = []
    for p in run.programs:
        atoms_NFD = run.variables[p.key]["params"].get("W_dec_FD")
        if atoms_NFD is not None:
            atoms_NFD = multihost_utils.process_allgather(atoms_NFD, tiled=True)
            found += [(m.name, atoms_NFD[n]) for n, m in enumerate(p.members)]
    return found


def _through_model(
    run: Run, mesh, lm, n_tokens: int, n_sequences: int, progress
) -> dict[str, dict]:
    taps, (tokens_ST, mask_ST) = _held_out(run, lm)
    length = tokens_ST.shape[1]
    n_sequences = min(-(-n_sequences // SEQUENCES), len(tokens_ST) // SEQUENCES) * SEQUENCES
    n_read = min(len(tokens_ST), max(n_sequences, n_tokens // length or len(tokens_ST)))
    n_read = n_read // SEQUENCES * SEQUENCES
    if n_read == 0:
        raise ValueError(
            f"the {run.config['stream']['name']} holds {len(tokens_ST)} held-out sequences; "
            f"{SEQUENCES} needed."
        )
    stream = run.config["stream"]
    tap = _taps.chosen(taps, stream.get("tap"))
    target = _taps.chosen(taps, stream["target"]) if stream.get("target") else tap
    splice = Splice(lm, target)
    read = jax.jit(lambda params, tokens: _at(lm.forward(params, tokens)[1], (tap, target)))
    totals = _Totals(run, mesh)
    losses = {m.name: loss_recovered.meter.init() for p in run.programs for m in p.members}
    for start in range(0, n_read, SEQUENCES):
        tokens = jnp.asarray(tokens_ST[start : start + SEQUENCES])
        mask = jnp.asarray(mask_ST[start : start + SEQUENCES])
        x, y = read(lm.params, tokens)
        x_BD, y_BD = (a.reshape(-1, a.shape[-1]) for a in (x, y))
        yhats = totals.add(x_BD, y_BD, mask.reshape(-1))
        if start < n_sequences:
            splice.begin(tokens, mask, y)
            for name, yhat in yhats:
                sums = splice(np.asarray(yhat).reshape(y.shape))
                losses[name] = loss_recovered.meter.update(losses[name], sums)
        if progress:
            progress((start + SEQUENCES) * length, n_read * length)
    records = totals.results()
    if n_sequences:
        for name, total in losses.items():
            records[name] |= loss_recovered.meter.result(total)
    return records


def _held_out(run: Run, lm) -> tuple[list[str], Packed]:
    """The taps that the run could read, and the held-out documents as its stream packed them."""
    stream = run.config["stream"]
    if stream["name"] == "from_lm":
        recipe = {"seed": run.config["seed"], **run.config["harvest"]}
        source = Source(lm, Recipe.of(**recipe))
        return source.taps, source.held_out
    path = stream["path"]
    recipe = store.open_manifest(path)["recipe"]
    harvested = recipe["model"]
    if harvested != {"name": lm.name, **lm.source}:
        raise ValueError(
            f"the store at {path} was harvested from {harvested['name']} ({harvested['file']}), whose "
            f"weights are not those of config.model, {lm.name} ({lm.source['file']})."
        )
    return list(recipe["taps"]), Packed(*store.tokens(path, "held_out"))


def _at(taps, sides):
    """The activations of each side, of several taps side by side."""
    return tuple(jnp.concatenate([taps[name] for name in side], axis=-1) for side in sides)


class Splice:
    """The language model with something else at its taps. One compilation serves every dictionary:
    what stands at a tap is an argument, so nothing before the first is computed."""

    def __init__(self, lm, taps: Sequence[str]):
        def run(params, tokens, mask, y, replacement):
            whole = jnp.where(mask[..., None], replacement, y)
            parts = jnp.split(whole, len(taps), axis=-1)
            edits = {
                tap: lambda x, m, part=part: part for tap, part in zip(taps, parts, strict=True)
            }
            return lm.forward(params, tokens, edits=edits, mask_BT=mask)[0]

        def sums(params, tokens, mask, y, replacement, original):
            logits = run(params, tokens, mask, y, replacement)
            return loss_recovered.losses(logits, original, tokens, mask)

        self._params, self._run, self._sums = lm.params, jax.jit(run), jax.jit(sums)

    def begin(self, tokens, mask, y) -> None:
        """Takes up a batch `[S, T]` whose activations at the taps, side by side, are `y` `[S, T, D]`."""
        self._batch = self._params, tokens, mask, y
        self._original = self._run(*self._batch, y)
        zero = jnp.zeros_like(y)
        self._fixed = {"original": self._loss(y), "ablated": self._loss(zero)}

    def __call__(self, yhat) -> dict:
        """Sums of the three runs with `yhat` `[S, T, D]` spliced in."""
        return {**self._fixed, "spliced": self._loss(yhat)}

    def _loss(self, replacement):
        return self._sums(*self._batch, replacement, self._original)


class _Totals:
    """Reconstruction and firing of every dictionary of a run, each program in one vmapped pass."""

    def __init__(self, run: Run, mesh):
        self._run, self._mesh = run, mesh
        self._meters = {
            p.key: {"reconstruction": _by_source(p), "firing": firing.meter(p.n_latents)}
            for p in run.programs
        }
        self._passes = {p.key: _pass(p, run.norm, self._meters[p.key], mesh) for p in run.programs}
        self._totals = {
            m.name: {name: meter.init() for name, meter in self._meters[p.key].items()}
            for p in run.programs
            for m in p.members
        }

    def add(self, x_BD, y_BD, mask_B) -> list[tuple[str, Any]]:
        """Measures a batch of raw activations; gives (name, reconstruction) for each dictionary."""
        yhats = []
        for p in self._run.programs:
            variables = self._run.variables[p.key]
            with jax.set_mesh(self._mesh):
                yhat_NBD, sums = self._passes[p.key](variables, p.hparams, x_BD, y_BD, mask_B)
            sums = jax.device_get(sums)
            for n, member in enumerate(p.members):
                totals = self._totals[member.name]
                for name, meter in self._meters[p.key].items():
                    mine = jax.tree.map(lambda leaf, n=n: leaf[n], sums[name])
                    totals[name] = meter.update(totals[name], mine)
                yhats.append((member.name, yhat_NBD[n]))
        return yhats

    def results(self) -> dict[str, dict]:
        meters = {m.name: self._meters[p.key] for p in self._run.programs for m in p.members}
        return {
            name: {
                k: v for key, t in totals.items() for k, v in meters[name][key].result(t).items()
            }
            for name, totals in self._totals.items()
        }


def _by_source(program: Program) -> Meter:
    """The meter of reconstruction for as many sources as the program's dictionaries have."""
    return reconstruction.by_source(program.module_of(0).sources)


def _pass(program: Program, norm: normalise.Norm, meters: Mapping, mesh) -> Callable:
    def one(variables, hparams, x_BD, y_BD, mask_B):
        yhat_BD, codes = reconstruct(program.module(hparams), norm, variables, x_BD)
        reading = Reading(y_BD, yhat_BD, codes, mask_B)
        return yhat_BD, {name: meter.measure(reading) for name, meter in meters.items()}

    axis = sharding.TABLE["N"]
    every = jax.vmap(one, in_axes=(0, 0, None, None, None), spmd_axis_name=axis)
    return jax.jit(every, out_shardings=sharding.everywhere(mesh))
