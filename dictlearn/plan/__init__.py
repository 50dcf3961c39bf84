"""The plan of a run: its memory, communication and time, from the compiler, before anything runs.

The training step of every program, and the forward pass of the language model, are compiled ahead of time from
shapes alone. They are compiled for a TPU topology without the hardware (`topology`) or for the devices present.
Neither activations nor weights need to exist. Memory and communication are the compiler's figures (plan/hlo.py
reads them from the compiled program). Matrix products are counted before compilation (plan/operations.py).
Times are a roofline: the largest of the times for matrix products at the chip's peak rate, for memory traffic,
and for traffic between chips. They are assumed to overlap, so a step takes at least this time.

The programs of one experiment run one after another, and their states are held together. So the run needs
the memory of all states, and of the temporaries of one program.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from dictlearn import experiment, sharding, streams
from dictlearn.experiment.stream import carried, open_stream, target_width
from dictlearn.plan import advice, cells, hlo, language, topology
from dictlearn.plan.operations import operations
from dictlearn.plan.topology import Chip, Compiled
from dictlearn.types import Batch

PLATFORMS = {"gpu": "cuda"}
"""Platforms whose devices have another name than the choice of forms uses."""


def plan(
    config: Mapping,
    slice_name: str | None = None,
    d_in: int | None = None,
    chip: Chip | None = None,
) -> dict[str, Any]:
    """The plan of a config: what `dictlearn plan` prints.

    Args:
        config: the config of an experiment.
        slice_name: a TPU slice such as "v5p:4x4x4"; None for the devices present.
        d_in: the width of the activations, if neither the config's model nor its stream states it.
        chip: the rates of the devices present, such as `topology.measured`; None for a plan without seconds.

    Returns:
        The plan as JSON. Bytes and operations are per device and step; `cells` has the price of the whole
        training of each dictionary. A program that does not fit has a row with `problem` instead of figures,
        and a warning.

    Raises:
        ValueError: for an invalid config, mesh or slice, and for an unknown width.
    """
    experiment.check(config)
    chip = topology.chip(slice_name) if slice_name else chip
    ways = config.get("mesh", {})
    mesh = sharding.mesh_of(topology.devices(slice_name) if slice_name else jax.devices(), **ways)
    widths, warnings = _widths(config, d_in), []
    programs = experiment.programs(config, *widths)
    states = experiment.abstract_states(programs, *widths, mesh)
    batch = _batch(config, widths, mesh)
    rows = [_program(program, states[program.key], batch, mesh, chip) for program in programs]
    model = language.forward(config, mesh, slice_name is not None, warnings)
    model = model and _row(model, chip)
    found = {
        "topology": slice_name or f"{mesh.size} x {jax.devices()[0].device_kind}",
        "devices": mesh.size,
        "mesh": dict(mesh.shape),
        "d_in": widths[0],
        "d_out": widths[1] or widths[0],
        "batch_size": config["batch_size"],
        "chip": chip and chip._asdict(),
        "programs": rows,
        "language_model": model,
    }
    found["cells"] = cells.cells(programs, rows, config["batch_size"], mesh.size)
    found["together"] = _together(config, rows, model, _bytes(batch), chip)
    found["time"] = _time(config, programs, rows, model, mesh.size)
    found["total"] = cells.total(found)
    found["over_budget"] = cells.over(config.get("budget", {}), found)
    found["warnings"] = warnings + advice.advise(config, found) + found["over_budget"]
    return found


def _widths(config: Mapping, d_in: int | None) -> tuple[int, int | None]:
    """d_in, and d_out of a transcoder: as given, or from the model's taps, or from the stream."""
    stream = config.get("stream", {})
    transcodes = "target" in stream or "target_path" in stream
    if d_in is not None:
        return d_in, d_in if transcodes else None
    if "model" in config and "harvest" in config:
        return language.widths(config)
    try:
        opened = open_stream(config)
    except OSError as error:
        raise ValueError(
            f"The width of the activations is unknown: {error} Give --d_in."
        ) from error
    return opened.d_in, target_width(opened)


def _batch(config: Mapping, widths: tuple[int, int | None], mesh) -> Batch:
    rows = config["batch_size"]
    part = lambda d: jax.ShapeDtypeStruct((rows, d), jnp.float32)
    key = jax.ShapeDtypeStruct((rows,), jnp.int32) if "keys" in carried(config) else None
    return topology.placed(Batch(part(widths[0]), part(widths[1] or widths[0]), key, key), mesh)


def _program(program: experiment.Program, state, batch: Batch, mesh, chip: Chip | None) -> dict:
    """The row of one program's training step."""
    abstract = lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype)
    hparams = jax.tree.map(abstract, program.hparams)
    params = jax.eval_shape(program.variables, state).get("params", {})
    row = {
        "name": program.key,
        "dictionaries": len(program.members),
        "parameters": sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params)),
        "state": _bytes(state),
        "tokens": batch.x_BD.shape[0],
    }
    with jax.set_mesh(mesh):
        traced = experiment.update(program, state, mesh).trace(state, hparams, batch)
        platform = str(mesh.devices.flat[0].platform)
        work = operations(traced.jaxpr, PLATFORMS.get(platform, platform), mesh.size)
        try:
            compiled = topology.compiled(traced.lower(), mesh)
        except topology.DoesNotFit as error:
            return row | {"problem": str(error)}
    # An autoencoder's targets are its inputs: the same array, which the compiler counts twice.
    twice = _bytes(batch.y_BD) if batch.y_BD.shape == batch.x_BD.shape else 0
    compiled = compiled._replace(arguments=compiled.arguments - twice)
    return _row(row | {"compiled": compiled, "flops": work / mesh.size, "devices": mesh.size}, chip)


def _row(row: dict, chip: Chip | None) -> dict:
    """Completes a row with the compiler's figures."""
    if "problem" in row:
        return row
    row = dict(row)
    compiled: Compiled = row.pop("compiled")
    program = hlo.parse(compiled.text)
    moved = hlo.collectives(program, row.pop("devices"))
    row |= {
        name: getattr(compiled, name) for name in ("arguments", "temporaries", "outputs", "code")
    }
    row["total"] = compiled.total
    row["bytes_accessed"] = compiled.bytes_accessed * hlo.loop_ratio(program)
    row["bytes_sent"] = sum(one.sent for one in moved)
    row["collectives"] = [one._asdict() for one in moved]
    row["largest_collective"] = hlo.largest(program)
    if chip:
        parts = {
            "products": row["flops"] / chip.flops,
            "memory": row["bytes_accessed"] / chip.hbm_rate,
            "network": row["bytes_sent"] / chip.ici_rate,
        }
        row |= {"share_of_hbm": compiled.total / chip.hbm, "seconds_by": parts}
        row["seconds"] = max(parts.values())
    return row


def _together(config: Mapping, rows: list[dict], model: dict | None, batch: int, chip) -> dict:
    """The memory of a device during the run: all states, the batch, the temporaries of one program, and the
    model if the stream runs it.
    """
    asked = [model] if model and _runs_model(config) else []
    if any("problem" in row for row in rows + asked):
        return {"fits": False}
    total = sum(row["state"] + row["code"] for row in rows) + batch
    total += max(row["temporaries"] + row["outputs"] for row in rows + asked)
    total += sum(row["arguments"] + row["code"] for row in asked)
    share = {"share_of_hbm": total / chip.hbm, "fits": total <= chip.hbm} if chip else {}
    return {"total": total, **share}


def _time(config: Mapping, programs, rows: list[dict], model: dict | None, devices: int) -> dict:
    """The seconds of a step of all programs, tokens per second, and the hours of the run and of the harvest."""
    if not all("seconds" in row for row in rows):
        return {}
    step = sum(row["seconds"] for row in rows)
    steps, each = max(p.steps for p in programs), zip(programs, rows, strict=True)
    seconds = sum(program.steps * row["seconds"] for program, row in each)
    found = {"step_seconds": step}
    if model and "seconds" in model:
        rate = model["tokens"] / model["seconds"]
        found["harvest_tokens_per_second"] = rate
        if _runs_model(config):
            step += config["batch_size"] / rate
            seconds += steps * config["batch_size"] / rate
        elif n_tokens := config["harvest"].get("n_tokens"):
            found["harvest_hours"] = n_tokens / rate / 3600
    hours = seconds / 3600
    return found | {
        "tokens_per_second": config["batch_size"] / step,
        "tokens": steps * config["batch_size"],
        "hours": hours,
        "chip_hours": hours * devices,
    }


def _runs_model(config: Mapping) -> bool:
    """Whether the language model runs while the dictionaries are trained."""
    stream = config.get("stream", {})
    return "name" in stream and streams.runs_model(stream["name"])


def _bytes(tree) -> int:
    """The bytes of placed arrays on one device."""
    of = lambda leaf: math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
    return sum(of(leaf) for leaf in jax.tree.leaves(tree))
