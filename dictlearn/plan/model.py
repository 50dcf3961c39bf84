"""The plan of a language model's forward pass to a tap, compiled for a TPU pod from any machine.

    python -m dictlearn.plan.model --topology v5p:2x2x4 --model 8 --batch 8 --length 1024 --tap resid.79

prints the memory and the operations per device for Llama 3 70B in bfloat16. With the path of a Hugging Face
`config.json` before the options, it plans that model. Nothing is run and no weights are made: shapes are
placed by the axis-letter table (`dictlearn.sharding`), XLA compiles for the topology ahead of time, and the
compiler's figures are reported. Only the package `libtpu` is needed (`pip install dictlearn-jax[tpu]`).

Source: the specification of Llama 3 70B, Grattafiori et al. 2024 (arXiv:2407.21783), table 3; the memory of
a chip, Google Cloud's pages on the architecture of each TPU version.
"""

import argparse
import json
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from dictlearn import sharding
from dictlearn.lm.decoder import forward
from dictlearn.lm.load import read_spec
from dictlearn.lm.spec import Spec, build, shape_of
from dictlearn.lm.taps import check_taps
from dictlearn.lm.weights import dtype_of
from dictlearn.plan import topology

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


class Plan(NamedTuple):
    """The memory, in bytes, and the operations of one device.

    arguments: its part of the weights and tokens. temporaries: the largest sum that is live at one time.
    outputs: its part of the tap. code: the program. total: the sum of these. hbm: the memory of the chip.
    flops: the operations of one batch; a multiplication and an addition count as two.
    """

    devices: int
    arguments: int
    temporaries: int
    outputs: int
    code: int
    total: int
    hbm: int
    flops: float


def lower(
    spec: Spec, mesh: Mesh, taps: Sequence[str], batch: int, length: int, dtype: str
) -> tuple[jax.stages.Traced, jax.stages.Lowered]:
    """Traces and lowers the forward pass from shapes.

    Args:
        spec: the hyperparameters of the model.
        mesh: the mesh.
        taps: the taps to compute.
        batch: the number of sequences.
        length: the number of tokens of a sequence.
        dtype: the dtype of the weights.

    Returns:
        (traced, lowered for `mesh`).
    """
    arguments = {
        "params": abstract_params(spec, dtype),
        "tokens_BT": jax.ShapeDtypeStruct((batch, length), jnp.int32),
    }
    placed = topology.placed(arguments, mesh)

    def forward_to_taps(params, tokens_BT):
        found = forward(spec, params, tokens_BT)[1]
        return [found[tap] for tap in taps]

    with jax.set_mesh(mesh):
        traced = jax.jit(forward_to_taps).trace(placed["params"], placed["tokens_BT"])
        return traced, traced.lower()


def abstract_params(spec: Spec, dtype: str):
    """The shapes of the parameters that `load` makes: in `dtype`, norms in float32.

    Args:
        spec: the hyperparameters of the model.
        dtype: the dtype of the weights.
    """
    shape = lambda name, layer: jax.ShapeDtypeStruct(shape_of(spec, name), dtype_of(name, dtype))
    return build(spec, shape)


def plan(
    spec: Spec,
    slice_name: str,
    *,
    tap: str,
    batch: int,
    length: int,
    model: int = 1,
    dtype: str = "bfloat16",
) -> Plan:
    """Compiles the forward pass of a model up to a tap for a TPU slice.

    Args:
        spec: the hyperparameters of the model.
        slice_name: a generation and a shape, such as "v5e:4x8".
        tap: the tap.
        batch: the number of sequences.
        length: the number of tokens of a sequence.
        model: the number of devices over which heads, MLP units and the vocabulary are split; the batch is
            split over the remaining factor of the devices.
        dtype: the dtype of the weights; norms are float32.

    Returns:
        A Plan.

    Raises:
        ValueError: if it does not fit, with the compiler's message; for an unknown topology, one that
            `model` does not divide, and an unknown tap.
        ImportError: without libtpu.
    """
    check_taps(spec, [tap])
    mesh = sharding.mesh_of(topology.devices(slice_name), model=model)
    try:
        found = topology.compiled(lower(spec, mesh, [tap], batch, length, dtype)[1], mesh)
    except topology.DoesNotFit as error:
        raise ValueError(
            f"{batch=} x {length=} does not fit {slice_name} with {model=}; take fewer sequences, a"
            f" larger slice or a larger `model`. {error}"
        ) from error
    return Plan(
        devices=mesh.size,
        arguments=found.arguments,
        temporaries=found.temporaries,
        outputs=found.outputs,
        code=found.code,
        total=found.total,
        hbm=topology.chip(slice_name).hbm,
        flops=found.flops,
    )


def main() -> None:
    """The command line: a Plan as JSON."""
    parser = argparse.ArgumentParser(prog="python -m dictlearn.plan.model")
    parser.add_argument("config", nargs="?", help="a config.json; default: that of Llama 3 70B")
    parser.add_argument("--topology", default="v5p:2x2x4", help="generation and shape of a slice")
    parser.add_argument("--model", type=int, default=8, help="ways to split the model")
    parser.add_argument("--batch", type=int, default=8, help="sequences")
    parser.add_argument("--length", type=int, default=1024, help="tokens of a sequence")
    parser.add_argument("--dtype", default="bfloat16", help="of the weights")
    parser.add_argument("--tap", help="default: the residual stream after the last layer")
    given = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    spec = read_spec(path=given.config) if given.config else LLAMA_3_70B
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
