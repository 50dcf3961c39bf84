"""TPU topologies for ahead-of-time compilation without the hardware, and their chips' peak rates.

Nothing runs and no array is made: shapes are placed on the devices of a slice, XLA compiles for them, and
the compiler's figures for memory and communication are reported. Only the package `libtpu` is needed (`pip
install dictlearn-jax[tpu]`).

Source: Google Cloud's pages on the architecture of each TPU version: peak bfloat16 operations, memory,
memory bandwidth, and bandwidth between chips. The last is the bandwidth of a chip over all its links in one
direction (half of the bidirectional rate in the pages). A collective over one mesh axis may use fewer links.
"""

import importlib.util
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import Mesh

from dictlearn import sharding

_SIDE, _TIMES = 1024, 5
"""The side of the matrices of a measured product, and how often it is measured."""


class Chip(NamedTuple):
    """The rates of a chip.

    flops: peak bfloat16 operations per second. hbm: bytes of memory. hbm_rate, ici_rate: bytes per second read
    from memory, and sent to other chips.
    """

    flops: float
    hbm: int
    hbm_rate: float
    ici_rate: float


CHIPS = {
    "v4": Chip(275e12, 32 * 2**30, 1200e9, 300e9),
    "v5e": Chip(197e12, 16 * 2**30, 819e9, 200e9),
    "v5p": Chip(459e12, 95 * 2**30, 2765e9, 600e9),
    "v6e": Chip(918e12, 32 * 2**30, 1638e9, 400e9),
}
"""By the first part of a topology's name."""


class DoesNotFit(ValueError):
    """A program does not fit into the memory of a device; the message is the compiler's."""


class Compiled(NamedTuple):
    """The compiler's figures for a program: bytes on one device.

    arguments: its part of the inputs. temporaries: the largest sum that is live at one time. outputs: its
    part of the outputs, without outputs that reuse the memory of arguments. code: the program. flops,
    bytes_accessed: the compiler's counts, in which the body of a loop counts once. text: the compiled
    program.
    """

    arguments: int
    temporaries: int
    outputs: int
    code: int
    flops: float
    bytes_accessed: float
    text: str

    @property
    def total(self) -> int:
        """All memory that the program holds while it runs."""
        return self.arguments + self.temporaries + self.outputs + self.code


def chip(topology: str) -> Chip:
    """The chip of a topology.

    Args:
        topology: such as "v5p:4x4x4".

    Returns:
        A Chip.

    Raises:
        ValueError: for an unknown generation.
    """
    if topology.split(":")[0] not in CHIPS:
        known = ", ".join(CHIPS)
        raise ValueError(f"Unknown {topology=}; known: {known}, each with a shape, as 'v5e:4x8'.")
    return CHIPS[topology.split(":")[0]]


def measured() -> Chip:
    """The rates of the first device present, from the fastest of a few products and copies; about a second.

    Returns:
        A Chip; products are in float32, and the rate between devices is that of its memory.
    """
    rate = lambda work, amount: amount / min(_seconds(work) for _ in range(_TIMES))
    a_DD, b_N = jnp.ones((_SIDE, _SIDE)), jnp.ones(2**24)
    product, copy = jax.jit(jnp.matmul), jax.jit(lambda b_N: b_N + 1)
    flops = rate(lambda: product(a_DD, a_DD), 2 * _SIDE**3)
    memory = rate(lambda: copy(b_N), 2 * b_N.nbytes)
    stats = jax.local_devices()[0].memory_stats() or {}
    host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Chip(flops, int(stats.get("bytes_limit", host)), memory, memory)


def _seconds(work: Callable[[], jax.Array]) -> float:
    started = time.perf_counter()
    jax.block_until_ready(work())
    return time.perf_counter() - started


def devices(topology: str) -> list[Any]:
    """The devices of a slice, without the hardware.

    Args:
        topology: a generation and a shape, such as "v5e:4x8".

    Returns:
        Devices to compile for.

    Raises:
        ValueError: for an unknown topology.
        ImportError: without libtpu.
    """
    chip(topology)
    if importlib.util.find_spec("libtpu") is None:
        raise ImportError("Compiling for TPUs needs libtpu: pip install dictlearn-jax[tpu]")
    # The hardware is not queried, and several processes may compile at once: none of them runs a TPU.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    try:
        return topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
    except jax.errors.JaxRuntimeError as error:
        raise ValueError(f"Unknown {topology=}: {str(error).splitlines()[0]}") from error


def placed(tree, mesh: Mesh, lead: str = ""):
    """The shapes of the arrays of a tree, placed on a mesh by their names (`sharding.shardings`).

    Args:
        tree: arrays or shapes.
        mesh: the mesh.
        lead: the letter of an additional leading axis.
    """
    struct = lambda leaf, to: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=to)
    return jax.tree.map(struct, tree, sharding.shardings(tree, mesh, lead))


def compiled(lowered: jax.stages.Lowered, mesh: Mesh) -> Compiled:
    """Compiles a lowered program for the devices of a mesh.

    Args:
        lowered: the program.
        mesh: the mesh.

    Returns:
        The compiler's figures.

    Raises:
        DoesNotFit: if the memory of the devices is too small.
    """
    with tempfile.TemporaryDirectory(prefix="dictlearn-hlo-") as folder:
        # The program's own `as_text` cannot yet read back what libtpu hands over to SparseCores.
        on_tpu = mesh.devices.flat[0].platform == "tpu"
        dump = {"xla_dump_to": folder, "xla_dump_hlo_as_text": True} if on_tpu else {}
        try:
            program = lowered.compile(compiler_options=dump)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            raise DoesNotFit(str(error).splitlines()[0]) from error
        found = sorted(Path(folder).glob("*after_optimizations.txt"))
        text = "\n".join(path.read_text() for path in found) if on_tpu else program.as_text()
    memory, cost = program.memory_analysis(), program.cost_analysis()
    assert memory is not None
    assert cost is not None
    return Compiled(
        arguments=memory.argument_size_in_bytes,
        temporaries=memory.temp_size_in_bytes,
        outputs=memory.output_size_in_bytes - memory.alias_size_in_bytes,
        code=memory.generated_code_size_in_bytes,
        flops=cost.get("flops", 0.0),
        bytes_accessed=cost.get("bytes accessed", 0.0),
        text=text or "",
    )
