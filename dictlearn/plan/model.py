"""Will it fit? A model's forward pass to a tap, compiled for a pod of TPUs from any machine.

    python -m dictlearn.plan.model --topology v5p:2x2x4 --model 8 --batch 8 --length 1024 --tap resid.79

prints, for Llama 3 70B in bfloat16, what each device would hold and do; with the path of a Hugging
Face `config.json` before the options, for that model. Nothing is run and no weight
is made: the shapes are placed by the axis-letter table (`dictlearn.sharding`), XLA compiles for the
topology ahead of time, and what the compiler says of memory and operations is what is reported. Only
the package `libtpu` is needed (`pip install dictlearn-jax[tpu]`).

Source: the specification of Llama 3 70B is that of Grattafiori et al. 2024 (arXiv:2407.21783),
table 3; memory of a chip, Google Cloud's TPU system architecture pages.
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


def lower(
    spec: Spec, mesh: Mesh, taps: Sequence[str], batch: int, length: int, dtype: str
) -> tuple[jax.stages.Traced, jax.stages.Lowered]:
    """The forward pass of `batch` sequences of `length` tokens to `taps`, from shapes: traced, and lowered
    for `mesh`."""
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
    """The shapes of the parameters that `load` makes: in `dtype`, and norms in float32."""
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
    """Compiles the forward pass of `spec` up to `tap` for the slice, and says what it takes.

    `slice_name` is a generation and a shape, "v5e:4x8"; `model` is the number of ways in
    which heads, MLP units and the vocabulary are split, and the rest of the devices share the batch
    of `batch` sequences of `length` tokens. The weights have `dtype`, and
    the norms float32, as `load` makes them.

    Raises ValueError where it does not fit, with what the compiler says of it; for a topology that
    is unknown or that `model` does not divide; and for an unknown tap. Raises ImportError without
    libtpu."""
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
