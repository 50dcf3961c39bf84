"""What devices tell each other in a step whose tokens are split over them: no more than gradients."""

import jax
import pytest

from dictlearn import dictionaries, experiment
from dictlearn.plan import hlo
from tests.helpers import mesh_of, opened, planted_config

PAIRS = ("csr",)
"""Those whose loss compares every token with every other."""
LEARNT = [
    name
    for name in dictionaries.names()
    if dictionaries.variant(name).learner == "gradient" and name not in PAIRS
]


@pytest.mark.parametrize("name", LEARNT)
def test_no_tokens_move_between_data_shards(name):
    """Their inputs, or five codes of each, would be more numbers than a matrix of the dictionary has."""
    config = planted_config(name, dictionary={"n_latents": 512}, batch_size=4096)
    mesh = mesh_of(1, 8, 1)
    with jax.set_mesh(mesh):
        drawn = opened(config)
        (program,) = experiment.programs(config, drawn.stream.d_in, None)
        batch = drawn.batch(0, mesh)
        state = experiment.init(program, batch, mesh)
        update = experiment.update(program, state, mesh)
        text = update.lower(state, program.hparams, batch).compile().as_text()
    most = max(leaf.size for leaf in jax.tree.leaves(state.variables["params"]))
    assert 0 < hlo.largest(hlo.parse(text)) <= most
