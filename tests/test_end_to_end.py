"""Training through the language model: the KL, the inputs of each member, and the placement of the
parameters."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn import dictionaries, experiment, normalise, objectives, restore, rules
from dictlearn.experiment.stream import open_stream
from dictlearn.learners import start
from dictlearn.learners.gradient import State, gradient
from dictlearn.lm import splice
from dictlearn.runs.trained import restore_run
from dictlearn.runs.warm_start import of_run, warm_start
from dictlearn.streams._place import place
from dictlearn.train import train
from dictlearn.types import Batch, Codes, Context, Out
from tests.helpers import mesh_of, run
from tests.lm.toy import SPEC, toy, write_gguf
from tests.streams.language import write_text

TAP = "resid_mid.0"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model whose vocabulary two devices can share, and a text."""
    folder = tmp_path_factory.mktemp("end_to_end")
    write_gguf(folder / "toy.gguf", *toy(0, dataclasses.replace(SPEC, vocab=260, n_layers=1)))
    write_text(folder / "text.txt")
    return folder


def config_of(folder, **changes) -> dict:
    config = {
        "seed": 0,
        "steps": 8,
        "batch_size": 64,
        "model": {"name": "toy", "path": str(folder / "toy.gguf")},
        "harvest": {
            **{"taps": (TAP,), "text": str(folder / "text.txt"), "sequence_length": 16},
            **{"lm_batch": 4, "held_out": 0.3, "dtype": "float32"},
        },
        "stream": {"name": "from_lm", "normalise": "unit_mean_sq"},
        "dictionary": {"name": "topk", "n_latents": 32, "k": 3},
        "objective": {"name": "kl"},
        "rule": {"name": "adam", "lr": 1e-2, "warmup_steps": 1},
        "learner": {"dead_after": 300, "b_dec_start": "mean"},
        "evaluate": {"n_tokens": 256, "n_sequences": 8},
    }
    for key, value in changes.items():
        config[key] = {**config.get(key, {}), **value} if isinstance(value, dict) else value
    return config


def linear_batch(key, n_sequences=16, length=8, variance=(100.0, 1.0)):
    """A model whose logits are x W, and W reads the second of two independent pairs of directions: the first
    pair has variance[0], which the head does not read."""
    k_x, k_w = jax.random.split(key)
    scale_D = jnp.sqrt(jnp.repeat(jnp.asarray(variance), 2))
    x_STD = scale_D * jax.random.normal(k_x, (n_sequences, length, 4))
    W_DV = jax.random.normal(k_w, (4, 6)).at[:2].set(0.0)
    mask_ST = jnp.ones((n_sequences, length), bool)

    def forward(params, tokens_ST, edits, mask_BT):
        x = edits["x"](jnp.zeros((*tokens_ST.shape, 4)), mask_BT, {})
        return x @ params, {"x": x}

    tokens_ST = jnp.zeros((n_sequences, length), jnp.int32)
    x_BD = x_STD.reshape(-1, 4)
    at_x = functools.partial(splice.run, forward, ("x",))
    return Batch(x_BD, x_BD, context=Context(tokens_ST, mask_ST, x_STD, W_DV, at_x))


def out_of(y_BD):
    return Out(y_BD, Codes(jnp.zeros((len(y_BD), 1))), jnp.zeros((len(y_BD), 1)))


def test_the_divergence_is_of_the_original_from_the_spliced_and_zero_for_a_perfect_one():
    batch = linear_batch(jax.random.key(0))
    other_BD = jnp.roll(batch.y_BD, 1, axis=0)
    logp, logq = (
        jax.nn.log_softmax(x_BD @ batch.context.params) for x_BD in (batch.y_BD, other_BD)
    )
    forwards, backwards = ((jnp.exp(a) * (a - b)).sum(-1) for a, b in ((logp, logq), (logq, logp)))
    kl = objectives.make("kl")
    found_B = kl(out_of(other_BD), batch)
    np.testing.assert_allclose(found_B, forwards, rtol=1e-4, atol=1e-5)
    assert np.abs(found_B - backwards).max() > 0.1
    np.testing.assert_allclose(kl(out_of(batch.y_BD), batch), 0.0, atol=1e-6)


def test_downstream_error_is_a_mean_over_taps_and_dimensions_with_its_own_weight():
    batch = linear_batch(jax.random.key(0))
    other_BD = jnp.roll(batch.y_BD, 1, axis=0)
    kl = objectives.make("kl")(out_of(other_BD), batch)
    both = objectives.make("kl", coefficient=0.5, downstream=("x",), downstream_coefficient=2.5)
    wanted_B = 0.5 * kl + 2.5 * jnp.mean((other_BD - batch.y_BD) ** 2, -1)
    np.testing.assert_allclose(both(out_of(other_BD), batch), wanted_B, rtol=1e-4)
    with pytest.raises(ValueError, match=r"downstream.*\bnowhere\b"):
        objectives.make("kl", downstream=("nowhere",))(out_of(other_BD), batch)


def test_masked_tokens_keep_their_activation_and_lose_nothing():
    batch = linear_batch(jax.random.key(0))
    mask_ST = jnp.arange(8) > jnp.zeros((16, 1))
    masked = batch._replace(context=dataclasses.replace(batch.context, mask_ST=mask_ST))
    other = out_of(jnp.roll(batch.y_BD, 1, axis=0))
    whole_B, found_B = (objectives.make("kl")(other, each) for each in (batch, masked))
    mask_B = mask_ST.reshape(-1)
    assert found_B[~mask_B].max() == 0
    np.testing.assert_allclose(found_B.mean(), whole_B[mask_B].mean(), rtol=1e-5)


def unread_mass(objective, batch) -> float:
    """The share of the atoms' squared length, weighted by use, that lies where the head does not read."""
    learner = gradient(
        dictionaries.make("relu", d_in=4, n_latents=8, sparsity=0.05),
        objectives.make(objective),
        rules.make("adam", lr=2e-2, steps=600, warmup_steps=1),
        start(b_dec_start="zeros"),
    )

    @jax.jit
    def whole(key):
        step = lambda state, _: (learner.update(state, batch)[0], None)
        return jax.lax.scan(step, learner.init(key, batch), length=600)[0]

    state = whole(jax.random.key(1))
    module = dictionaries.make("relu", d_in=4, n_latents=8, sparsity=0.05)
    used_F = module.apply(state.variables, batch.x_BD, method="encode").val.mean(0)
    mass_FD = (used_F[:, None] * state.variables["params"]["W_dec_FD"]) ** 2
    return float(mass_FD[:, :2].sum() / mass_FD.sum())


def test_end_to_end_ignores_what_the_head_does_not_read_and_local_training_does_not():
    batch = linear_batch(jax.random.key(0), n_sequences=64)
    assert unread_mass("kl", batch) < 0.05
    assert unread_mass("squared_error", batch) > 0.9


def test_parts_of_a_batch_are_whole_sequences():
    batch, states = linear_batch(jax.random.key(0)), []
    for accumulate in (1, 4):
        learner = gradient(
            dictionaries.make("topk", d_in=4, n_latents=8, k=2),
            objectives.make("kl"),
            rules.make("adam", lr=1e-2, steps=9, warmup_steps=1),
            accumulate=accumulate,
        )
        one = lambda key, learner=learner: learner.update(learner.init(key, batch), batch)
        states.append(jax.jit(one)(jax.random.key(1))[0].variables)
    close(states[0], states[1], 1e-4)


def close(found, wanted, tolerance):
    each = lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
    jax.tree.map(each, found, wanted)


def test_members_side_by_side_on_eight_devices_are_those_that_one_device_trains_in_turn(folder):
    """Of skip transcoders of an MLP, so that all that this file is about is in one program."""
    taps = {"harvest": {"taps": ("mlp_in.0", "mlp_out.0")}}
    pair = {"stream": {"tap": "mlp_in.0", "target": "mlp_out.0"}}
    config = config_of(folder, sweep={"lr": (1e-3, 1e-2)}, **taps, **pair)
    config["dictionary"] = {"name": "relu", "n_latents": 32, "sparsity": 0.1, "skip": True}
    with jax.enable_x64(True):
        _, first, _ = run(config, 0, dtype=np.float64)
        first = jax.tree.map(np.array, first)
        _, states, infos = run(config, 2, dtype=np.float64, start=first)
        split = run(config, 2, mesh_of(2, 2, 2), dtype=np.float64, start=first)
    close(split[1:], (states, infos), 1e-5)  # the model itself norms in float32


def test_the_models_parameters_are_arguments_of_the_program_and_lie_split_over_the_mesh(folder):
    config, mesh = config_of(folder, sweep={"seed": (0, 1)}), mesh_of(1, 2, 2)
    with jax.set_mesh(mesh):
        stream = open_stream(config)
        (program,) = experiment.programs(config, stream.d_in, None)
        batch, again = (place(stream.batch(t), mesh) for t in (0, 1))
        embed_VD = batch.context.params["embed_VD"]
        assert embed_VD is again.context.params["embed_VD"]
        assert embed_VD.addressable_shards[0].data.shape[0] == len(embed_VD) // 2
        state = experiment.init(program, batch._replace(context=None), mesh)
        step = experiment.update(program, state, mesh)
        read = sum(leaf.size for leaf in jax.tree.leaves(batch.context.params))
        text = step.lower(state, program.hparams, batch).as_text()
    assert read > 3000
    arguments = text[text.index("@main") : text.index("\n", text.index("@main"))]
    assert f"tensor<{len(embed_VD)}x12xf32>" in arguments
    assert f"tensor<2x{len(embed_VD)}x12xf32>" not in text, (
        "the embedding is copied for each member"
    )


def test_rows_of_masked_tokens_are_their_neighbours(folder):
    with jax.set_mesh(mesh_of(1, 1, 1)):
        batch = open_stream(config_of(folder)).batch(0)
    context = batch.context
    mask_B, y_BD = context.mask_ST.reshape(-1), context.y_STD.reshape(batch.y_BD.shape)
    assert not mask_B.all()
    np.testing.assert_allclose(batch.y_BD[mask_B], context.scale * y_BD[mask_B], rtol=1e-5)
    first = np.flatnonzero(mask_B)[0]
    np.testing.assert_array_equal(batch.y_BD[0], batch.y_BD[first])


def test_fine_tuning_starts_from_the_function_that_a_run_left(folder, tmp_path):
    """The second run's scale is another, estimated from another sample, and its rate is zero."""
    base = config_of(folder, batch_size=128, steps=1, mesh={"data": 4, "model": 2})
    train(base | {"objective": {"name": "squared_error"}}, tmp_path / "local")
    start = {"workdir": str(tmp_path / "local")}
    train(base | {"start": start, "rule": {"name": "adam", "lr": 0.0}}, tmp_path / "tuned")
    (old,), (new,) = (restore(tmp_path / name) for name in ("local", "tuned"))
    assert old.norm != new.norm
    x_BD = 3 * jax.random.normal(jax.random.key(0), (8, 12))
    np.testing.assert_allclose(new.reconstruct(x_BD), old.reconstruct(x_BD), rtol=1e-4, atol=1e-5)
    mesh = mesh_of(1, 1, 1)
    left = restore_run(tmp_path / "local").variables["topk_n32_0"]
    states = dict.fromkeys("ab", State(left, None, left, left, left))
    known = of_run(start["workdir"], mesh)
    both = warm_start(states, old.norm, mesh, known, "topk_n32_0")
    jax.tree.map(lambda leaf: leaf.delete(), both["a"].variables)
    jax.tree.map(np.testing.assert_array_equal, both["b"].variables, left)
    with pytest.raises(ValueError, match="topk_n32_0"):
        warm_start({"other": None}, new.norm, mesh, known)
    with pytest.raises(ValueError, match=r"unit_mean_sq.*\btoken_unit\b"):
        warm_start({}, normalise.Norm("token_unit"), mesh, known)


def test_an_objective_that_runs_the_model_says_what_it_needs(folder):
    with pytest.raises(
        ValueError, match=r"the stream 'synthetic' has none; set stream.name to from_lm"
    ):
        open_stream(config_of(folder) | {"stream": {"name": "synthetic"}})
    with pytest.raises(ValueError, match=r"batch_size=60\b.*sequence_length=16\b"):
        open_stream(config_of(folder, batch_size=60))
    with pytest.raises(ValueError, match="normalise='token_unit'"):
        open_stream(config_of(folder, stream={"normalise": "token_unit"}))
    with pytest.raises(ValueError, match=r"objective.*'taps'.*downstream"):
        experiment.check(config_of(folder, objective={"taps": ()}))
    batch = linear_batch(jax.random.key(0))._replace(context=None)
    with pytest.raises(ValueError, match=r"\bkl\b.*from_lm"):
        objectives.make("kl")(out_of(batch.y_BD), batch)
