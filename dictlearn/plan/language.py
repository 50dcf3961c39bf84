"""The plan of a config's language model: its forward pass to the taps, on the devices of one process.

A harvest and the stream `from_lm` run it in this way. Every process has its own copy of the model. It is split
over the process's devices as the mesh's `model` axis is, if there are enough devices, or copied to each.
"""

import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from dictlearn import lm as languages
from dictlearn import sharding, streams
from dictlearn.lm.decoder import forward as run
from dictlearn.plan import topology
from dictlearn.plan.model import abstract_params, lower
from dictlearn.plan.operations import operations
from dictlearn.streams._source import Recipe


def forward(config: Mapping, mesh, elsewhere: bool, warnings: list[str]) -> dict | None:
    """The plan of one forward pass.

    Args:
        config: the config of the experiment.
        mesh: the mesh of the run.
        elsewhere: whether the devices of the mesh do not belong to this process.
        warnings: receives a warning for a model that is not a decoder.

    Returns:
        A row with the compiler's figures as `compiled`, and `tokens` of all processes in one pass; None for a
        config without a model or with a model that is not a decoder.
    """
    if "model" not in config or "harvest" not in config:
        return None
    try:
        spec, recipe = _spec(config), _recipe(config)
    except ValueError as error:
        warnings.append(f"The plan leaves out the language model: {error}")
        return None
    mine = _of_first_process(mesh) if elsewhere else jax.local_devices()
    own = _mesh(config, mine, recipe.lm_batch)
    taps = languages.expand_taps(spec, recipe.taps)
    dtype = config["model"].get("dtype", "float32")
    tokens = recipe.lm_batch * recipe.sequence_length
    shapes = jax.tree.leaves(abstract_params(spec, dtype))
    row = {
        "name": f"{config['model'].get('name', 'model')} to {', '.join(taps)}",
        "parameters": sum(math.prod(leaf.shape) for leaf in shapes),
        "tokens": tokens * (mesh.size // len(mine) if elsewhere else jax.process_count()),
        "devices": own.size,
    }
    traced, lowered = lower(spec, own, taps, recipe.lm_batch, recipe.sequence_length, dtype)
    row["flops"] = operations(traced.jaxpr, own.devices.flat[0].platform, own.size) / own.size
    try:
        row["compiled"] = topology.compiled(lowered, own)
    except topology.DoesNotFit as error:
        row["problem"] = str(error)
    return row


def widths(config: Mapping) -> tuple[int, int | None]:
    """The widths of the stream's tap and of its target.

    Args:
        config: the config of the experiment.

    Returns:
        (d_in, d_out); d_out is None without a target.
    """
    spec, stream = _spec(config), config.get("stream", {})
    taps = languages.expand_taps(spec, _recipe(config).taps)
    names = [stream.get("tap") or taps[0], *([stream["target"]] if "target" in stream else [])]
    tokens_BT = jax.ShapeDtypeStruct((1, 2), jnp.int32)
    forward = lambda params, tokens_BT: run(spec, params, tokens_BT)[1]
    found = jax.eval_shape(forward, abstract_params(spec, "float32"), tokens_BT)
    languages.check_taps(spec, names)
    sizes = [found[name].shape[-1] for name in names]
    return sizes[0], sizes[1] if len(sizes) > 1 else None


def _spec(config: Mapping):
    model = config["model"]
    return languages.read_spec(**{key: model[key] for key in ("name", "path") if key in model})


def _recipe(config: Mapping) -> Recipe:
    return Recipe.of(**config["harvest"])


def _of_first_process(mesh) -> list:
    return [device for device in mesh.devices.flat if device.process_index == 0]


def _mesh(config: Mapping, devices: list, lm_batch: int):
    """The mesh of the model in `dictlearn harvest`, or in `_source` where harvest has none."""
    stream = config.get("stream", {})
    split = "name" not in stream or not streams.runs_model(stream["name"])
    ways = math.gcd(config.get("mesh", {}).get("model", 1), len(devices)) if split else 1
    if ways > 1:
        return sharding.mesh_of(devices, model=ways)
    return sharding.mesh_of(devices[: math.gcd(lm_batch, len(devices))])
