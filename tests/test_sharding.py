"""Placement is read from names, and a name that lies is an error."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from dictlearn import sharding
from dictlearn.types import Batch
from tests.helpers import mesh_of, planted_config, run


def specs(tree, mesh, lead=""):
    return jax.tree.map(lambda s: s.spec, sharding.shardings(tree, mesh, lead))


def test_leaves_are_placed_by_the_letters_at_the_end_of_their_names():
    tree = {
        "params": {"W_dec_FD": jnp.zeros((8, 3)), "b_dec_D": jnp.zeros(3)},
        "count": jnp.zeros(()),
        "batch": Batch(jnp.zeros((4, 3)), jnp.zeros((4, 5))),
    }
    found = specs(tree, mesh_of(2, 2, 2))
    assert found["params"] == {"W_dec_FD": P("model", None), "b_dec_D": P(None)}
    assert found["count"] == P()
    assert found["batch"] == Batch(P("data", None), P("data", None))


def test_a_sweeps_state_is_split_over_its_leading_axis():
    tree = {"W_dec_FD": jnp.zeros((4, 8, 3)), "step": jnp.zeros(4)}
    found = specs(tree, mesh_of(2, 2, 2), lead="N")
    assert found == {"W_dec_FD": P("sweep", "model", None), "step": P("sweep")}


def test_a_rank_that_contradicts_the_name_is_an_error():
    with pytest.raises(ValueError, match=r"W_dec_FD.*\(8,\)"):
        sharding.shardings({"W_dec_FD": jnp.zeros(8)}, mesh_of(1, 1, 2))


def test_an_axis_that_does_not_divide_is_an_error_that_names_it():
    with pytest.raises(ValueError, match=r"b_enc_F.*\b9\b.*\b2\b"):
        sharding.shardings({"b_enc_F": jnp.zeros(9)}, mesh_of(1, 1, 2))


def test_a_mesh_of_another_size_than_the_machine_says_so():
    with pytest.raises(ValueError, match=r"\b6\b.*\b8\b"):
        sharding.mesh(sweep=3, data=2, model=1)


def test_no_collective_of_the_topk_step_moves_tokens_times_latents():
    import re

    from dictlearn import experiment
    from dictlearn.experiment.stream import open_stream
    from dictlearn.streams._place import place

    config = planted_config(dictionary={"n_latents": 1024, "k": 4}, batch_size=256)
    mesh = mesh_of(1, 2, 4)
    with jax.set_mesh(mesh):
        stream = open_stream(config)
        (program,) = experiment.programs(config, stream.d_in, None)
        batch = place(stream.batches[0], mesh)
        state = experiment.init(program, batch, mesh)
        lowered = experiment.update(program, state, mesh).lower(state, program.hparams, batch)
    text = lowered.compile().as_text()
    moved = re.findall(r"= \w+\[([\d,]*)\]\S* (?:all-|reduce-scatter|collective-)", text)
    sizes = [int(np_prod(shape)) for shape in moved]
    gradient = 1024 // 4 * 32
    assert sizes
    assert max(sizes) <= max(gradient, 128 * 32)
    assert max(sizes) < 128 * 256  # a shard's pre-activations


def np_prod(shape: str) -> int:
    result = 1
    for size in filter(None, shape.split(",")):
        result *= int(size)
    return result


def test_all_eight_devices_hold_a_part():
    programs, _, _ = run(planted_config(sweep={"seed": (0, 1)}), 1, mesh_of(2, 2, 2))
    assert len(programs[0].members) == 2


def test_auxk_on_some_of_the_tokens_is_the_same_on_any_mesh():
    sizes = {"n_latents": 512, "k": 1, "aux_every": 4}
    config = planted_config(dictionary=sizes, learner={"dead_after": 128})
    with jax.enable_x64(True):
        (program,), first, _ = run(config, 0, dtype=np.float64)
        _, whole, infos = run(config, 5, dtype=np.float64, start=first)
        _, split, _ = run(config, 5, mesh_of(1, 4, 2), dtype=np.float64, start=first)
    assert infos[-1][program.key]["auxk"][0] > 0
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-7)
    jax.tree.map(close, whole[program.key].variables, split[program.key].variables)
