"""FLOPs of a step: the compiler's count, the plan's, the formula, and the compute of the laws agree."""

import jax
import jax.numpy as jnp
import pytest

from dictlearn import dictionaries, experiment
from dictlearn.plan import topology
from dictlearn.plan.operations import operations
from dictlearn.scaling.inputs import INPUTS
from dictlearn.types import Batch
from tests.helpers import SIZES, mesh_of, planted_config

D, N, B = 256, 1024, 1024
SPARSE, DENSE = ("topk", "abs_topk"), ("relu", "jumprelu", "p_anneal")


def counted(name: str) -> tuple[float, float, float]:
    """(the compiler's count, the products before compilation, the compute of the laws) of a step on one CPU."""
    changed = {
        "n_latents": N,
        **({"aux_k": 0} if "aux_k" in dictionaries.fields(name, None) else {}),
    }
    mesh = mesh_of(1, 1, 1)
    (program,) = experiment.programs(
        planted_config(name, batch_size=B, dictionary=changed), D, None
    )
    state = experiment.abstract_states([program], D, None, mesh)[program.key]
    x_BD = jax.ShapeDtypeStruct((B, D), jnp.float32)
    with jax.set_mesh(mesh):
        batch = topology.placed(Batch(x_BD, x_BD), mesh)
        traced = experiment.update(program, state, mesh).trace(state, program.hparams, batch)
        compiled = topology.compiled(traced.lower(), mesh).flops
    compute = INPUTS["compute"].read(program.members[0].hparams, lambda: B)
    return compiled, operations(traced.jaxpr, "cpu"), compute


@pytest.mark.parametrize("name", DENSE)
def test_a_dense_step_has_five_products_of_the_encoders_size_and_the_laws_count_six(name):
    """Encoder, decoder, and the gradients of both and of the codes; the laws also count that of the inputs."""
    compiled, products, compute = counted(name)
    formula = 2 * N * (2 * D + 3 * D) * B
    assert compiled == pytest.approx(formula, rel=0.05)
    assert (
        1 <= products / formula < 1.41
    )  # The encoder is counted again where few codes are chosen by it.
    assert compute / formula == pytest.approx(1.2)


@pytest.mark.parametrize("name", SPARSE)
def test_a_sparse_step_has_the_encoder_and_the_rows_of_the_active_latents(name):
    compiled, products, _ = counted(name)
    formula = (2 * N * D + SIZES["k"] * (2 * D + 6 * D)) * B
    assert compiled == pytest.approx(formula, rel=0.05)
    assert products == pytest.approx(formula, rel=0.05)
