"""Conformance of every dictionary. A new file in the folder is tested without changes here."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn import dictionaries, experiment, normalise
from dictlearn.ops.firing import dense
from dictlearn.runs.checkpoint import Checkpoints
from dictlearn.runs.fold import fold_normalisation
from dictlearn.types import Batch, Codes
from tests.dictionaries.begun import begun, numpy
from tests.helpers import mesh_of, planted_config, run

NAMES = dictionaries.names()
every = pytest.mark.parametrize("name", NAMES)
LEARNT = [n for n in NAMES if dictionaries.variant(n).learner == "gradient"]
by_gradient = pytest.mark.parametrize("name", LEARNT)
"""Those that other learners make prove this with the learner."""
PATIENCE = {"masked": 3}
"""Times as many steps as others need: an atom's coordinate has a gradient only where it is hidden."""
LAYERED = ("clt", "transcoders")
OF_AUXK = [
    name
    for name in NAMES
    if "aux_k" in dictionaries.fields(name) and name not in (*LAYERED, "csr", "gsae")
]
"""Those whose dead latents AuxK must wake. Every other latent of a layered one is a whole layer of it; csr and
gsae share the code of `topk`."""
REVIVES = {"archetypal": {"unit_atoms": False}}
"""What brings dead latents back besides AuxK, turned off: unit rows along the data reach over a low bias."""
PRODUCTS = [
    (name, activation)
    for name in NAMES
    for activation in dictionaries.activations(name)[1:]
    if activation in ("relu", "topk", "batch_topk", "jumprelu", "gated")
]
"""Structures with an activation that is not their default."""


def one(state, n=0):
    return jax.tree.map(lambda leaf: np.array(leaf[n]), state.variables)


@functools.cache
def after(name):
    """(state, infos) of 100 steps, or of as many as the dictionary needs."""
    return begun(name).steps(100 * PATIENCE.get(name, 1))


def built(name):
    """(module, variables) of that run, and raw activations to try it on."""
    x = np.random.default_rng(9).standard_normal((32, 32), np.float32)
    return begun(name).program.module({}), one(after(name)[0]), x


@functools.partial(jax.jit, static_argnums=0)
def encode(module, variables, x):
    return dense(module.apply(variables, x, method="encode"), module.n_latents)


@functools.partial(jax.jit, static_argnums=0)
def read(module, variables, x):
    """(codes, the reconstruction from them as they are, and from their other form)."""
    y, codes = module.apply(variables, x, method="reconstruct")
    full = dense(codes, module.n_latents)
    return full, y, module.apply(variables, Codes(full), method="decode")


def only(name):
    return {k: v for k, v in (("k", 3), ("sparsity", 0.1)) if k in dictionaries.fields(name)}


def foldable(name):
    return dictionaries.make(name, d_in=32, n_latents=64, **only(name)).foldable


@every
def test_encoding_is_per_token(name):
    module, variables, x = built(name)
    codes = lambda x: np.asarray(read(module, variables, x)[0])
    np.testing.assert_allclose(codes(x)[::3], encode(module, variables, x[::3]), atol=1e-6)
    np.testing.assert_allclose(codes(x[::-1])[::-1], codes(x), atol=1e-6)


@every
def test_declare_declares_every_variable(name):
    module, variables, _ = built(name)
    declared = jax.eval_shape(lambda: module.init(jax.random.key(0), method="declare"))
    shapes = lambda tree: jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)
    assert shapes(declared) == shapes(variables)


def raw_inputs(width=32):
    normal = np.random.default_rng(3).standard_normal
    mix = normal((width, width), np.float32) + 2 * np.eye(width, dtype=np.float32)
    return 4 + normal((32, width), np.float32) @ mix


def reconstruct(module, variables, x):
    return np.asarray(read(module, variables, x)[1])


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
    _, found, again = read(*built(name))
    np.testing.assert_allclose(found, again, atol=1e-5)


@by_gradient
def test_training_lowers_the_loss_and_moves_every_parameter(name):
    state, infos = after(name)
    losses = [info["reconstruction"][0] for info in infos]
    assert np.mean(losses[-10:]) < 0.9 * np.mean(losses[1:11])
    assert np.isfinite(infos[-1]["loss"]).all()
    first = begun(name).first.variables
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), state.variables, first)
    for path, change in jax.tree_util.tree_leaves_with_path(moved["params"]):
        assert change > 0, f"{jax.tree_util.keystr(path)} never moved"


def member(tree, n):
    return jax.tree.map(lambda leaf: leaf[n : n + 1], tree)


@by_gradient
def test_a_sweep_over_eight_devices_equals_a_run_of_its_own_on_one(name):
    """The last of four members: it begins as the run of its own does, and goes on in float64. test_sweep.py and
    test_sharding.py take these apart."""
    config = planted_config(name, sweep={"seed": (1, 0), "lr": (1e-3, 3e-3)})
    (sweep,), first, _ = run(config, 0)
    first = numpy(first)
    mine = member(first[sweep.key], 3)
    close(mine.variables, begun(name).first.variables, 1e-6)
    with jax.enable_x64(True):
        split = run(config, 3, mesh_of(2, 2, 2), dtype=np.float64, start=first)[1:]
        alone = planted_config(name, rule={"lr": 3e-3})
        key = begun(name).program.key
        (program,), *whole = run(alone, 3, dtype=np.float64, start={key: mine})
        states, infos = ([each[program.key] for each in part] for part in ([whole[0]], whole[1]))
        wanted = [
            member(split[0][sweep.key], 3),
            *(member(info[sweep.key], 3) for info in split[1]),
        ]
        close([*states, *infos], wanted, 1e-7)


def close(found, wanted, tolerance):
    each = lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
    jax.tree.map(each, found, wanted)


@pytest.mark.parametrize("name", OF_AUXK)
def test_a_dead_latent_comes_alive_under_auxk(name):
    on = survivors(name)
    assert on >= 12, f"of 32 latents killed, {on} came alive with AuxK"


@pytest.mark.parametrize("name", ["topk", "mutual_choice"])
def test_without_auxk_few_dead_latents_come_alive(name):
    off = survivors(name, aux_k=0)
    assert off <= 6, f"of 32 latents killed, {off} came alive without AuxK"


def survivors(name, **fields):
    """How many of every other latent, 32 killed by their bias, fire in the last 20 of 300 steps."""

    def killed(state):
        state.variables["params"]["b_enc_F"][:, ::2] = -1.0
        return state

    run = begun(name, **fields, **REVIVES.get(name, {}))
    state, _ = run.steps(300, killed)
    return int((state.inner.silent_F[0, ::2] < 20 * 128).sum())


@every
def test_a_checkpoint_brings_it_back_to_the_bit(name, tmp_path):
    program, states = begun(name).program, {begun(name).program.key: after(name)[0]}
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(2, states, {"step": 2})
        checkpoints.wait()
        wanted = experiment.abstract_states([program], 32, None)
        step, found, _ = checkpoints.restore(lambda meta: wanted)
    assert step == 2
    jax.tree.map(np.testing.assert_array_equal, found, states)


@every
def test_it_runs_in_bfloat16(name):
    module, variables, x = built(name)
    low = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), (variables, x))
    y = np.asarray(read(module, *low)[1])
    assert y.dtype == jnp.bfloat16
    assert np.isfinite(y.astype(np.float32)).all()


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
    x, alive = np.ones((4, 6), np.float32), jnp.zeros(16, bool)
    variables = jax.jit(module.init)(jax.random.key(0), x, alive)
    train = lambda v: module.apply(v, x, alive, mutable=["stats"])[0]
    assert jax.eval_shape(train, variables).y_BD.shape == (4, 10)
    b_dec_D = np.ones(10, np.float32)
    shifted = {**variables, "params": {**variables["params"], "b_dec_D": b_dec_D}}
    codes = [encode(module, each, x) for each in (shifted, variables)]
    np.testing.assert_array_equal(*codes)


@pytest.mark.parametrize(("name", "activation"), PRODUCTS)
def test_a_structure_with_any_activation_trains_and_is_described(name, activation):
    config = planted_config(
        name, steps=40, rule={"lr": 3e-3}, dictionary={"activation": activation}
    )
    (program,), states, infos = run(config, 40)
    module, variables = program.module({}), one(states[program.key])
    losses = [info[program.key]["reconstruction"][0] for info in infos]
    assert np.mean(losses[-5:]) < 0.95 * np.mean(losses[:5]), losses
    assert dictionaries.make(**dictionaries.describe(module)) == module
    x = np.random.default_rng(9).standard_normal((32, 32), np.float32)
    codes, y, again = read(module, variables, x)
    turned = np.asarray(read(module, variables, x[::-1])[0])[::-1]
    np.testing.assert_allclose(turned, codes, atol=1e-6)
    np.testing.assert_allclose(y, again, atol=1e-5)


def transcoder(name):
    """The fields of a small skip transcoder."""
    return {"d_in": 6, "d_out": 10, "n_latents": 16, "skip": True, **only(name)}


@pytest.mark.parametrize("name", [n for n in NAMES if transcodes(n) and n != "transcoders"])
def test_a_skip_joins_every_reconstruction_and_is_no_part_of_an_autoencoder(name):
    module, alive = dictionaries.make(name, **transcoder(name)), jnp.zeros(16, bool)
    random = np.random.default_rng(1).standard_normal
    x, W_DD = random((4, 6), np.float32), random((10, 6), np.float32)
    variables = jax.jit(module.init)(jax.random.key(0), x, alive)
    assert not np.asarray(variables["params"]["W_skip_DD"]).any()
    moved = {**variables, "params": {**variables["params"], "W_skip_DD": W_DD}}

    @jax.jit
    def told(variables):
        """Every reconstruction: at inference, in training, and of parts of the latents."""
        out = module.apply(variables, x, alive, mutable=["stats"])[0]
        read = module.apply(variables, x, method="reconstruct")[0]
        return [read, out.y_BD, *(y_BD for _, y_BD in out.others)]

    for before, after in zip(told(variables), told(moved), strict=True):
        np.testing.assert_allclose(after, before + x @ W_DD.T, rtol=1e-5, atol=1e-5)
    narrow = dictionaries.make(name, **{**transcoder(name), "d_out": None})
    with pytest.raises(ValueError, match="skip=True"):
        jax.eval_shape(narrow.init, jax.random.key(0), x, alive)
