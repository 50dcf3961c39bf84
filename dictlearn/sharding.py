"""Placement on devices: the name of a leaf decides its placement.

A leaf's name ends in its axis letters (`W_dec_FD`), and one table maps letters to mesh axes. Parameters,
optimiser moments, rule state, statistics and batches are all placed by it.
"""

import math
import re
from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from dictlearn.types import AXES

TABLE = {
    "N": "sweep",
    "B": "data",
    "S": "data",
    "F": "model",
    "V": "model",
    "H": "model",
    "G": "model",
    "M": "model",
}
"""Axis letter -> mesh axis; other letters are never split."""

MESH_AXES = ("sweep", "data", "model")

_SUFFIX = re.compile(rf"(?:^|_)([{AXES}]+)$")


def mesh(sweep: int = 1, data: int | None = None, model: int = 1) -> Mesh:
    """A mesh (sweep, data, model) over all devices; by default `data` is the number of devices that remain."""
    shape = mesh_shape(jax.device_count(), sweep, data, model)
    return jax.make_mesh(shape, MESH_AXES, (AxisType.Auto,) * 3)


def mesh_of(devices: Sequence, sweep: int = 1, data: int | None = None, model: int = 1) -> Mesh:
    """The same mesh over `devices`, in their order; they may be devices of a topology that is only compiled
    for."""
    shape = mesh_shape(len(devices), sweep, data, model)
    return Mesh(np.array(devices).reshape(shape), MESH_AXES, axis_types=(AxisType.Auto,) * 3)


def mesh_shape(n: int, sweep: int, data: int | None, model: int) -> tuple[int, int, int]:
    """(sweep, data, model) of `n` devices. Raises ValueError unless their product is n."""
    for name, factor in {"sweep": sweep, "data": data, "model": model}.items():
        if factor is not None and factor < 1:
            raise ValueError(f"mesh.{name}={factor} must be at least 1.")
    data = n // (sweep * model) if data is None else data
    if sweep * data * model != n:
        raise ValueError(
            f"mesh {sweep=} x {data=} x {model=} is {sweep * data * model} devices, but there are "
            f"{n}; choose factors whose product is {n}."
        )
    return sweep, data, model


def local_mesh(n: int, model: int = 1) -> Mesh:
    """A mesh of the first `n` devices of this process, split `model` ways and the rest along data, for work
    in which no other process takes part."""
    if n % model:
        raise ValueError(f"{n} devices of this process cannot be split {model=} ways.")
    devices = jax.local_devices()[:n]
    return jax.make_mesh((1, n // model, model), MESH_AXES, (AxisType.Auto,) * 3, devices=devices)


def share(mesh: Mesh) -> tuple[int, int]:
    """(index, count): the share of a batch that this process reads, and the number of shares. Processes
    whose devices hold the same tokens (with other latents or other members) have the same share.

    Raises ValueError where the tokens of two processes overlap only in part.
    """
    axis, held = mesh.axis_names.index(TABLE["B"]), {}
    for place, device in np.ndenumerate(mesh.devices):
        held.setdefault(device.process_index, set()).add(place[axis])
    shares = sorted({tuple(sorted(rows)) for rows in held.values()})
    if sum(map(len, shares)) != len(set().union(*shares)) or len(set(map(len, shares))) > 1:
        raise ValueError(
            f"the mesh {dict(mesh.shape)} splits tokens across processes unevenly: {len(held)} processes hold "
            f"the shares {shares} of {TABLE['B']}; choose data or model a multiple of the processes."
        )
    return shares.index(tuple(sorted(held[jax.process_index()]))), len(shares)


def everywhere(mesh: Mesh) -> NamedSharding:
    """A full copy on every device, which every process can read."""
    return NamedSharding(mesh, P())


def letters(path) -> str:
    """The axis letters at the end of a leaf's last name ("" for a scalar or an unnamed leaf)."""
    if not path:
        return ""
    key = path[-1]
    name = str(getattr(key, "key", getattr(key, "name", "")))
    found = _SUFFIX.search(name)
    return found.group(1) if found else ""


def spec(path, shape: tuple[int, ...], lead: str = "") -> P:
    """The partition of one leaf; `lead` is prepended to its letters ("N" for the state of a sweep)."""
    named = letters(path)
    if not named:
        return P(TABLE[lead]) if lead and shape else P()
    axes = lead + named
    if len(axes) != len(shape):
        name = jax.tree_util.keystr(path)
        raise ValueError(f"{name} has shape {shape}, but the axes in its name are {axes!r}.")
    return P(*(TABLE.get(axis) for axis in axes))


def shardings(tree, mesh: Mesh, lead: str = ""):
    """NamedShardings for every leaf of `tree` (arrays or ShapeDtypeStructs), from their names.

    Raises ValueError for a leaf whose rank contradicts its name, or whose split axis is not divisible.
    """

    def one(path, leaf):
        placed = spec(path, leaf.shape, lead)
        for size, axis in zip(leaf.shape, placed, strict=False):
            ways = math.prod(mesh.shape[a] for a in [axis] if a)
            if size % ways:
                name = jax.tree_util.keystr(path)
                raise ValueError(
                    f"{name} has an axis of {size} to be split {ways} ways over {axis!r}; "
                    f"choose a size that {ways} divides or another mesh."
                )
        return NamedSharding(mesh, placed)

    return jax.tree_util.tree_map_with_path(one, tree)


def resident(tree):
    """`tree`, placed on the current mesh (`jax.set_mesh`) by the names of its leaves; unchanged without a
    mesh."""
    mesh = jax.sharding.get_mesh()
    return tree if mesh.empty else jax.device_put(tree, shardings(tree, mesh))


def is_split() -> bool:
    """Whether the current mesh (`jax.set_mesh`) splits tokens or latents."""
    return axis_size(TABLE["B"]) * axis_size(TABLE["F"]) > 1


def platform() -> str | None:
    """Of the devices of the current mesh (`jax.set_mesh`), under a trace too; None without a mesh."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    return device and device.platform


def axis_size(name: str) -> int:
    """The number of ways in which the current mesh (`jax.set_mesh`) splits this axis; 1 without a mesh."""
    return dict(jax.sharding.get_abstract_mesh().shape).get(name, 1)
