"""Will it fit? A model's forward pass to a tap, compiled for a pod of TPUs from any machine.

    python -m dictlearn.lm.plan --topology v5p:2x2x4 --model 8 --batch 8 --length 1024 --tap resid.79

prints, for Llama 3 70B in bfloat16, what each device would hold and do; with the path of a Hugging
Face `config.json` before the options, for that model. Nothing is run and no weight
is made: the shapes are placed by the axis-letter table (`dictlearn.sharding`), XLA compiles for the
topology ahead of time, and what the compiler says of memory and operations is what is reported. Only
the package `libtpu` is needed (`pip install dictlearn[tpu]`).

Source: the specification of Llama 3 70B is that of Grattafiori et al. 2024 (arXiv:2407.21783),
table 3; memory of a chip, Google Cloud's TPU system architecture pages.
"""

import argparse
import importlib.util
import json
import os
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh

from dictlearn import sharding
from dictlearn.lm.decoder import forward
from dictlearn.lm.families import spec_from_config
from dictlearn.lm.spec import Spec, build, shape_of
from dictlearn.lm.taps import check_taps
from dictlearn.lm.weights import dtype_of, read_json

LLAMA_3_70B = Spec(
    n_layers=80,
    d_model=8192,
    n_heads=64,
    n_kv_heads=8,
    head_dim=128,
    d_mlp=28672,
    vocab=128256,
    rope_base=500000.0,
    tied=False,
)
HBM = {"v5e": 16 * 2**30, "v5p": 95 * 2**30, "v6e": 32 * 2**30}
"""Bytes of memory of a chip, by the first part of a topology's name."""


class Plan(NamedTuple):
    """What one device of a topology holds, in bytes, and computes.

    arguments: its part of the weights and tokens; temporaries: the largest that live at one time;
    outputs: its part of the tap; code: the program; total: their sum; hbm: what the chip has.
    flops: operations of one batch, a multiplication and an addition counted as two."""

    devices: int
    arguments: int
    temporaries: int
    outputs: int
    code: int
    total: int
    hbm: int
    flops: float


def plan(
    spec: Spec,
    topology: str,
    *,
    tap: str,
    batch: int,
    length: int,
    model: int = 1,
    dtype: str = "bfloat16",
) -> Plan:
    """Compiles the forward pass of `spec` up to `tap` for `topology`, and says what it takes.

    `topology` is a generation and the shape of a slice, "v5e:4x8"; `model` is the number of ways in
    which heads, MLP units and the vocabulary are split, and the rest of the devices share the batch
    of `batch` sequences of `length` tokens. The weights have `dtype`, and
    the norms float32, as `load` makes them.

    Raises ValueError where it does not fit, with what the compiler says of it; for a topology that
    is unknown or that `model` does not divide; and for an unknown tap. Raises ImportError without
    libtpu."""
    check_taps(spec, [tap])
    mesh = _mesh(topology, model)
    shape = lambda name, layer: jax.ShapeDtypeStruct(shape_of(spec, name), dtype_of(name, dtype))
    arguments = {
        "params": build(spec, shape),
        "tokens_BT": jax.ShapeDtypeStruct((batch, length), jnp.int32),
    }
    placed = jax.tree.map(
        lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where),
        arguments,
        sharding.shardings(arguments, mesh),
    )

    def forward_to_tap(params, tokens_BT):
        return forward(spec, params, tokens_BT)[1][tap]

    lowered = jax.jit(forward_to_tap).lower(placed["params"], placed["tokens_BT"])
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        problem = str(error).splitlines()[0]
        raise ValueError(
            f"{batch=} x {length=} does not fit {topology} with {model=}; take fewer sequences, a"
            f" larger slice or a larger `model`. {problem}"
        ) from error
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
    assert memory is not None
    assert cost is not None
    bytes_of = {
        "arguments": memory.argument_size_in_bytes,
        "temporaries": memory.temp_size_in_bytes,
        "outputs": memory.output_size_in_bytes,
        "code": memory.generated_code_size_in_bytes,
    }
    return Plan(
        devices=mesh.size,
        **bytes_of,
        total=sum(bytes_of.values()),
        hbm=HBM[topology.split(":")[0]],
        flops=cost["flops"],
    )


def _mesh(topology: str, model: int) -> Mesh:
    if topology.split(":")[0] not in HBM:
        known = ", ".join(HBM)
        raise ValueError(f"Unknown {topology=}; known: {known}, each with a shape, as 'v5e:4x8'.")
    if importlib.util.find_spec("libtpu") is None:
        raise ImportError("Compiling for TPUs needs libtpu: pip install dictlearn[tpu]")
    # No machine is asked what it is, and several may compile at one time: none of them runs a TPU.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    try:
        devices = topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
    except jax.errors.JaxRuntimeError as error:
        raise ValueError(f"Unknown {topology=}: {str(error).splitlines()[0]}") from error
    if len(devices) % model:
        raise ValueError(f"{model=} does not divide the {len(devices)} devices of {topology}.")
    shape = (1, len(devices) // model, model)
    axes = ("sweep", "data", "model")
    return Mesh(np.array(devices).reshape(shape), axes, axis_types=(AxisType.Auto,) * 3)


def main() -> None:
    """The command line: a Plan as JSON."""
    parser = argparse.ArgumentParser(prog="python -m dictlearn.lm.plan")
    parser.add_argument("config", nargs="?", help="a config.json; default: that of Llama 3 70B")
    parser.add_argument("--topology", default="v5p:2x2x4", help="generation and shape of a slice")
    parser.add_argument("--model", type=int, default=8, help="ways to split the model")
    parser.add_argument("--batch", type=int, default=8, help="sequences")
    parser.add_argument("--length", type=int, default=1024, help="tokens of a sequence")
    parser.add_argument("--dtype", default="bfloat16", help="of the weights")
    parser.add_argument("--tap", help="default: the residual stream after the last layer")
    given = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    spec = spec_from_config(read_json(Path(given.config))) if given.config else LLAMA_3_70B
    found = plan(
        spec,
        given.topology,
        tap=given.tap or f"resid.{spec.n_layers - 1}",
        batch=given.batch,
        length=given.length,
        model=given.model,
        dtype=given.dtype,
    )
    print(json.dumps(found._asdict()))


if __name__ == "__main__":
    main()
