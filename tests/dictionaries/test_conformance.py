"""Conformance of every dictionary. A new file in the folder is tested without changes here."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn import dictionaries, experiment, normalise
from dictlearn.experiment.stream import open_stream
from dictlearn.ops.firing import dense
from dictlearn.runs.checkpoint import Checkpoints
from dictlearn.runs.fold import fold_normalisation
from dictlearn.streams._place import place
from dictlearn.types import Batch, Codes
from tests.helpers import mesh_of, planted_config, run

NAMES = dictionaries.names()
every = pytest.mark.parametrize("name", NAMES)
LEARNT = [n for n in NAMES if dictionaries.variant(n).learner == "gradient"]
by_gradient = pytest.mark.parametrize("name", LEARNT)
"""Those that other learners make prove this with the learner."""
PATIENCE = {"masked": 3}
"""Times as many steps as others need: an atom's coordinate has a gradient only where it is hidden."""
REVIVES = {"archetypal": {"unit_atoms": False}, "csr": {"multi": 0.0}}
"""What brings dead latents back besides AuxK, turned off: unit rows along the data reach over a low bias, and
a second reconstruction uses more latents."""
PRODUCTS = [
    (name, activation)
    for name in NAMES
    for activation in dictionaries.activations(name)[1:]
    if activation in ("relu", "topk", "batch_topk", "jumprelu", "gated")
]
"""Structures with an activation that is not their default."""


def one(states, key, n=0):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf[n]), states[key].variables)


def training(name):
    steps = 100 * PATIENCE.get(name, 1)
    rule = {"rule": {"lr": 3e-3}} if name in LEARNT else {}
    return planted_config(name, steps=steps, **rule)


@functools.cache
def after(name):
    """(programs, states, infos, first states) of a whole run."""
    config = training(name)
    first = run(config, 0)[1]
    return *run(config, config["steps"], start=first), first


def built(name):
    """(module, variables) of that run, and raw activations to try it on."""
    programs, states, *_ = after(name)
    x = jax.random.normal(jax.random.key(9), (32, 32))
    return programs[0].module({}), one(states, programs[0].key), x


@functools.partial(jax.jit, static_argnums=(0, 3))
def call(module, variables, x, method):
    return module.apply(variables, x, method=method)


def only(name):
    return {k: v for k, v in (("k", 3), ("sparsity", 0.1)) if k in dictionaries.fields(name)}


def foldable(name):
    return dictionaries.make(name, d_in=32, n_latents=64, **only(name)).foldable


@every
def test_encoding_is_per_token(name):
    module, variables, x = built(name)
    codes = lambda x: dense(call(module, variables, x, "encode"), 64)
    np.testing.assert_allclose(codes(x)[::3], codes(x[::3]), atol=1e-6)
    np.testing.assert_allclose(codes(x[::-1])[::-1], codes(x), atol=1e-6)


def raw_inputs(width=32):
    mix = jax.random.normal(jax.random.key(3), (width, width)) + 2 * jnp.eye(width)
    return np.asarray(4 + jax.random.normal(jax.random.key(2), (64, width)) @ mix)


def reconstruct(module, variables, x):
    codes = call(module, variables, x, "encode")
    return np.asarray(call(module, variables, codes, "decode"))


@pytest.mark.parametrize("name", [name for name in NAMES if foldable(name)])
def test_folding_a_scale_keeps_the_function(name):
    module, variables, _ = built(name)
    x = raw_inputs()
    norm = normalise.estimate("mean_norm_sqrt_d", [Batch(x, x)])
    x_n, undo = normalise.forward(norm, x)
    wanted = undo(reconstruct(module, variables, x_n))
    folded = fold_normalisation(norm, module, variables)
    found = reconstruct(module, folded, x)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=2e-5 * np.abs(wanted).max())
    same = jax.tree.map(lambda a, b: bool(jnp.array_equal(a, b)), folded, dict(variables))
    as_it_was = np.abs(wanted - reconstruct(module, variables, x)).max()
    assert jax.tree.all(same) or as_it_was > 1e-3 * np.abs(wanted).max()


@every
def test_decoding_reads_either_form_of_codes(name):
    module, variables, x = built(name)
    codes = call(module, variables, x, "encode")
    full = Codes(dense(codes, 64))
    found = call(module, variables, codes, "decode")
    np.testing.assert_allclose(found, call(module, variables, full, "decode"), atol=1e-5)


@by_gradient
def test_training_lowers_the_loss_and_moves_every_parameter(name):
    programs, states, infos, start = after(name)
    key = programs[0].key
    losses = [info[key]["reconstruction"][0] for info in infos]
    assert np.mean(losses[-10:]) < 0.9 * np.mean(losses[1:11])
    assert np.isfinite(infos[-1][key]["loss"]).all()
    moved = jax.tree.map(
        lambda a, b: np.abs(a - b).max(), states[key].variables, start[key].variables
    )
    for path, change in jax.tree_util.tree_leaves_with_path(moved["params"]):
        assert change > 0, f"{jax.tree_util.keystr(path)} never moved"


def numpy(tree):
    """The same values in memory of their own: what a step was given is not there after it."""
    return jax.tree.map(lambda leaf: np.array(leaf), tree)


def member(tree, n):
    return jax.tree.map(lambda leaf: leaf[n : n + 1], tree)


@by_gradient
def test_a_sweep_over_eight_devices_equals_a_run_of_its_own_on_one(name):
    """The last of four members, in float64. test_sweep.py and test_sharding.py take these apart."""
    with jax.enable_x64(True):
        config = planted_config(name, sweep={"seed": (0, 1), "lr": (1e-3, 3e-3)})
        (sweep,), first, _ = run(config, 0, dtype=np.float64)
        first = numpy(first)
        split = run(config, 3, mesh_of(2, 2, 2), dtype=np.float64, start=numpy(first))[1:]
        alone = planted_config(name, seed=1, rule={"lr": 3e-3}, stream={"seed": 0})
        (program,), state, _ = run(alone, 0, dtype=np.float64)
        mine = {program.key: member(first[sweep.key], 3)}
        close(one(state, program.key), one(mine, program.key), 1e-6)
        whole = run(alone, 3, dtype=np.float64, start=mine)[1:]
        states, infos = ([each[program.key] for each in part] for part in ([whole[0]], whole[1]))
        wanted = [
            member(split[0][sweep.key], 3),
            *(member(info[sweep.key], 3) for info in split[1]),
        ]
        close([*states, *infos], wanted, 1e-7)


def close(found, wanted, tolerance):
    each = lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
    jax.tree.map(each, found, wanted)


@pytest.mark.parametrize("name", [n for n in NAMES if "aux_k" in dictionaries.fields(n)])
def test_a_dead_latent_comes_alive_under_auxk(name):
    on = survivors(name, aux_k=8)
    assert on >= 12, f"of 32 latents killed, {on} came alive with AuxK"


@pytest.mark.parametrize("name", ["topk", "mutual_choice"])
def test_without_auxk_few_dead_latents_come_alive(name):
    off = survivors(name, aux_k=0)
    assert off <= 6, f"of 32 latents killed, {off} came alive without AuxK"


def survivors(name, aux_k):
    """How many of every other latent, 32 killed by their bias, fire after 300 steps."""
    fields = {
        "aux_k": aux_k,
        **REVIVES.get(name, {}),
    }
    config = planted_config(
        name, steps=300, dictionary=fields, rule={"lr": 3e-3, "decay_fraction": 0.0}
    )
    mesh = mesh_of(1, 1, 1)
    with jax.set_mesh(mesh):
        stream = open_stream(config)
        (program,) = experiment.programs(config, stream.d_in, None)
        state = experiment.init(program, place(stream.batches[0], mesh), mesh)
        params = state.variables["params"]
        params["b_enc_F"] = params["b_enc_F"].at[:, ::2].set(-1.0)
        update = experiment.update(program, state, mesh)
        fired = np.zeros(64)
        for t in range(300):
            state, _ = update(state, program.hparams, place(stream.batches[t], mesh))
            if t >= 280:
                fired += np.asarray(state.inner.silent_F[0]) == 0
        return int((fired[::2] > 0).sum())


@every
def test_a_checkpoint_brings_it_back_to_the_bit(name, tmp_path):
    programs, states, *_ = after(name)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(2, states, {"step": 2})
        checkpoints.wait()
        wanted = experiment.abstract_states(programs, 32, None)
        step, found, _ = checkpoints.restore(lambda meta: wanted)
    assert step == 2
    jax.tree.map(np.testing.assert_array_equal, found, states)


@every
def test_it_runs_in_bfloat16(name):
    module, variables, x = built(name)
    low = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), variables)
    y = call(module, low, call(module, low, x.astype(jnp.bfloat16), "encode"), "decode")
    assert y.dtype == jnp.bfloat16
    assert bool(jnp.isfinite(y.astype(jnp.float32)).all())


@every
def test_unknown_fields_are_refused_by_name(name):
    with pytest.raises(ValueError, match=r"'n_latent'.*n_latents"):
        dictionaries.make(name, n_latent=3)


def test_an_unknown_variant_is_answered_with_those_there_are():
    with pytest.raises(ValueError, match=r"'top_k'.*batch_topk"):
        dictionaries.make("top_k")


def transcodes(name):
    return dictionaries.variant(name).transcodes


@pytest.mark.parametrize("name", [name for name in NAMES if not transcodes(name)])
def test_an_autoencoder_alone_refuses_another_width(name):
    module = dictionaries.make(name, d_in=6, d_out=10, n_latents=16, **only(name))
    with pytest.raises(ValueError, match="d_out=10"):
        module.init(jax.random.key(0), jnp.ones((4, 6)), jnp.zeros(16, bool))


@pytest.mark.parametrize("name", [name for name in NAMES if transcodes(name)])
def test_a_transcoder_reads_one_width_and_writes_another(name):
    module = dictionaries.make(name, d_in=6, d_out=10, n_latents=16, **only(name))
    x, alive = jnp.ones((4, 6)), jnp.zeros(16, bool)
    variables = jax.jit(module.init)(jax.random.key(0), x, alive)
    train = jax.jit(lambda v: module.apply(v, x, alive, mutable=["stats"])[0])
    assert train(variables).y_BD.shape == (4, 10)
    shifted = {**variables, "params": {**variables["params"], "b_dec_D": jnp.ones(10)}}
    encode = lambda v: dense(call(module, v, x, "encode"), 16)
    np.testing.assert_array_equal(encode(shifted), encode(variables))


@pytest.mark.parametrize(("name", "activation"), PRODUCTS)
def test_a_structure_with_any_activation_trains_and_is_described(name, activation):
    config = planted_config(
        name, steps=40, rule={"lr": 3e-3}, dictionary={"activation": activation}
    )
    programs, states, infos = run(config, 40)
    key = programs[0].key
    module, variables = programs[0].module({}), one(states, key)
    losses = [info[key]["reconstruction"][0] for info in infos]
    assert np.mean(losses[-5:]) < 0.95 * np.mean(losses[:5]), losses
    assert dictionaries.make(**dictionaries.describe(module)) == module
    x = jax.random.normal(jax.random.key(9), (32, 32))
    codes = lambda x: dense(call(module, variables, x, "encode"), 64)
    np.testing.assert_allclose(codes(x[::-1])[::-1], codes(x), atol=1e-6)
    y, found = call(module, variables, x, "reconstruct")
    full = Codes(dense(found, 64))
    np.testing.assert_allclose(y, call(module, variables, full, "decode"), atol=1e-5)


def transcoder(name):
    """The fields of a small skip transcoder."""
    return {"d_in": 6, "d_out": 10, "n_latents": 16, "skip": True, **only(name)}


@pytest.mark.parametrize("name", [name for name in NAMES if transcodes(name)])
def test_a_skip_joins_every_reconstruction_and_is_no_part_of_an_autoencoder(name):
    module, alive = dictionaries.make(name, **transcoder(name)), jnp.zeros(16, bool)
    x = jax.random.normal(jax.random.key(1), (4, 6))
    variables = jax.jit(module.init)(jax.random.key(0), x, alive)
    assert not np.asarray(variables["params"]["W_skip_DD"]).any()
    W_DD = jax.random.normal(jax.random.key(2), (10, 6))
    moved = {**variables, "params": {**variables["params"], "W_skip_DD": W_DD}}
    read = lambda v: module.apply(v, x, method="reconstruct")[0]
    np.testing.assert_allclose(read(moved), read(variables) + x @ W_DD.T, rtol=1e-5, atol=1e-5)
    train = jax.jit(lambda v: module.apply(v, x, alive, mutable=["stats"])[0])
    before, after = train(variables), train(moved)
    pairs = [(before.y_BD, after.y_BD)]
    pairs += [(a, b) for (_, a), (_, b) in zip(before.others, after.others, strict=True)]
    for a, b in pairs:
        np.testing.assert_allclose(b, a + x @ W_DD.T, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="skip=True"):
        dictionaries.make(name, **{**transcoder(name), "d_out": None}).init(
            jax.random.key(0), x, alive
        )
