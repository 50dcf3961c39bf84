"""What every dictionary proves, whatever its kind. A new file in the folder is tested as it stands."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn import dictionaries, experiment
from dictlearn.ops.firing import dense
from dictlearn.train import open_stream, place
from dictlearn.types import Codes
from tests.helpers import mesh_of, planted_config, run

NAMES = dictionaries.names()
every = pytest.mark.parametrize("name", NAMES)


def one(states, key, n=0):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf[n]), states[key].variables)


def built(name, n_steps=2, **changes):
    """(module, variables) after a few steps, and raw activations to try it on."""
    programs, states, _ = run(planted_config(name, **changes), n_steps)
    x = jax.random.normal(jax.random.key(9), (32, 32))
    return programs[0].module({}), one(states, programs[0].key), x


@every
def test_encoding_is_per_token(name):
    module, variables, x = built(name)
    codes = lambda x: dense(module.apply(variables, x, method="encode"), 64)
    np.testing.assert_allclose(codes(x)[::3], codes(x[::3]), atol=1e-6)
    np.testing.assert_allclose(codes(x[::-1])[::-1], codes(x), atol=1e-6)


@every
def test_decoding_reads_either_form_of_codes(name):
    module, variables, x = built(name)
    codes = module.apply(variables, x, method="encode")
    full = Codes(dense(codes, 64))
    found = module.apply(variables, codes, method="decode")
    np.testing.assert_allclose(found, module.apply(variables, full, method="decode"), atol=1e-5)


@every
def test_training_lowers_the_loss_and_moves_every_parameter(name):
    config = planted_config(name, steps=100, rule={"lr": 3e-3})
    programs, states, infos = run(config, 100)
    _, start, _ = run(config, 0)
    key = programs[0].key
    first, last = (infos[t][key]["reconstruction"][0] for t in (0, -1))
    assert last < 0.9 * first
    moved = jax.tree.map(
        lambda a, b: np.abs(a - b).max(), states[key].variables, start[key].variables
    )
    for path, change in jax.tree_util.tree_leaves_with_path(moved["params"]):
        assert change > 0, f"{jax.tree_util.keystr(path)} never moved"


@every
def test_sharded_over_eight_devices_equals_one(name):
    config = planted_config(
        name, sweep={"seed": (0, 1)}, rule={"name": "adam", "warmup_steps": 100}
    )
    _, whole, infos = run(config, 2)
    _, split, split_infos = run(config, 2, mesh_of(2, 2, 2))
    close(split, whole, 1e-5)
    close(split_infos, infos, 1e-5)


@every
def test_a_sweep_equals_separate_runs(name):
    cells = [(0, 1e-3), (1, 3e-3)]
    with jax.enable_x64(True):
        config = planted_config(name, sweep={"seed": (0, 1), "lr": (1e-3, 3e-3)})
        (sweep,), first, _ = run(config, 0, dtype=np.float64)
        _, states, _ = run(config, 3, dtype=np.float64)
        for n, (seed, lr) in zip((0, 3), cells, strict=True):
            alone = planted_config(name, seed=seed, rule={"lr": lr}, stream={"seed": 0})
            (program,), state, _ = run(alone, 0, dtype=np.float64)
            mine = jax.tree.map(lambda leaf, n=n: jnp.asarray(leaf[n : n + 1]), first[sweep.key])
            close(one(state, program.key), one({program.key: mine}, program.key), 1e-6)
            _, state, _ = run(alone, 3, dtype=np.float64, start={program.key: mine})
            close(one(state, program.key), one(states, sweep.key, n), 2e-9)


def close(found, wanted, tolerance):
    each = lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
    jax.tree.map(each, found, wanted)


@pytest.mark.parametrize("name", [n for n in NAMES if "aux_k" in dictionaries.fields(n)])
def test_a_dead_latent_comes_alive_under_auxk(name):
    on = survivors(name, aux_k=8)
    off = survivors(name, aux_k=0)
    assert on >= 16 > off, f"of 32 latents killed, {on} came alive with AuxK, {off} without"


def only(name):
    return {k: v for k, v in (("k", 3), ("l1", 0.1)) if k in dictionaries.fields(name)}


def survivors(name, aux_k):
    """How many of 32 latents, killed by their bias, fire after 300 steps."""
    config = planted_config(
        name, steps=300, dictionary={"aux_k": aux_k}, rule={"lr": 3e-3, "decay_fraction": 0.0}
    )
    mesh = mesh_of(1, 1, 1)
    with jax.set_mesh(mesh):
        stream = open_stream(config)
        (program,) = experiment.programs(config, stream.d_in, None)
        state = experiment.init(program, place(stream.batches[0], mesh), mesh)
        params = state.variables["params"]
        params["b_enc_F"] = params["b_enc_F"].at[:, :32].set(-1.0)
        update = experiment.update(program, state, mesh)
        fired = np.zeros(64)
        for t in range(300):
            state, _ = update(state, program.hparams, place(stream.batches[t], mesh))
            if t >= 280:
                fired += np.asarray(state.silent_F[0]) == 0
        return int((fired[:32] > 0).sum())


@every
def test_it_runs_in_bfloat16(name):
    module, variables, x = built(name)
    low = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), variables)
    codes = module.apply(low, x.astype(jnp.bfloat16), method="encode")
    y = module.apply(low, codes, method="decode")
    assert y.dtype == jnp.bfloat16
    assert bool(jnp.isfinite(y.astype(jnp.float32)).all())


@every
def test_unknown_fields_are_refused_by_name(name):
    with pytest.raises(ValueError, match=r"has no 'n_latent'; it has .*n_latents"):
        dictionaries.make(name, n_latent=3)


def test_an_unknown_variant_is_answered_with_those_there_are():
    with pytest.raises(ValueError, match="unknown dictionary 'top_k'; there are batch_topk, relu"):
        dictionaries.make("top_k")


@every
def test_a_transcoder_reads_one_width_and_writes_another(name):
    module = dictionaries.make(name, d_in=6, d_out=10, n_latents=16, **only(name))
    x, alive = jnp.ones((4, 6)), jnp.zeros(16, bool)
    variables = module.init(jax.random.key(0), x, alive)
    assert module.apply(variables, x, alive, mutable=["stats"])[0].y_BD.shape == (4, 10)
    shifted = {**variables, "params": {**variables["params"], "b_dec_D": jnp.ones(10)}}
    encode = lambda v: dense(module.apply(v, x, method="encode"), 16)
    np.testing.assert_array_equal(encode(shifted), encode(variables))
