"""What the variants whose sparsity is a penalty or a threshold promise of themselves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn import dictionaries
from dictlearn.experiment.stream import open_stream
from dictlearn.runs.to_jumprelu import gated_to_jumprelu
from dictlearn.types import Batch
from tests.helpers import mesh_of, planted_config, run

D, F = 8, 16


def built(name, key=0, **fields):
    """(module, variables with every parameter moved from its start, 64 inputs)."""
    module = dictionaries.make(name, d_in=D, n_latents=F, **fields)
    x = jax.random.normal(jax.random.key(key), (64, D))
    variables = module.init(jax.random.key(1), x, jnp.zeros(F, bool))
    params = {
        leaf: value + 0.1 * jax.random.normal(jax.random.key(2 + n), value.shape)
        for n, (leaf, value) in enumerate(sorted(variables["params"].items()))
    }
    return module, {**variables, "params": params}, x


def forward(module, variables, x):
    return module.apply(variables, x, jnp.zeros(F, bool), mutable=["stats"])[0]


def loss_of(module, variables, x):
    """params -> squared error and penalty, meaned over tokens."""

    def loss(params):
        out = forward(module, {**variables, "params": params}, x)
        return (((out.y_BD - x) ** 2).sum(-1) + out.penalty_B).mean()

    return loss


def unit_atoms(params):
    W = params["W_dec_FD"]
    return {**params, "W_dec_FD": W / jnp.linalg.norm(W, axis=1, keepdims=True)}


@pytest.mark.parametrize("penalty", ["l1", "sqrt", "tanh"])
def test_with_unit_atoms_both_forms_of_relu_are_one_to_the_encoder(penalty):
    found = []
    for norm_weighted in (False, True):
        fields = {"sparsity": 0.3, "penalty": penalty, "norm_weighted": norm_weighted}
        module, variables, x = built("relu", **fields)
        params = unit_atoms(variables["params"])
        value, grads = jax.value_and_grad(loss_of(module, variables, x))(params)
        found.append((value, grads["W_enc_FD"], grads["b_enc_F"]))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), *found)


def test_the_penalty_of_the_april_form_grows_with_the_atoms_and_pulls_on_them():
    module, variables, x = built("relu", sparsity=0.3, norm_weighted=True, subtract_b_dec=False)
    penalty = lambda params: forward(module, {"params": params}, x).penalty_B.sum()
    params = unit_atoms(variables["params"])
    double = {**params, "W_dec_FD": 2 * params["W_dec_FD"]}
    np.testing.assert_allclose(penalty(double), 2 * penalty(params), rtol=1e-6)
    pull = jax.grad(penalty)(params)["W_dec_FD"]
    along = (pull * params["W_dec_FD"]).sum()
    np.testing.assert_allclose(along, penalty(params), rtol=1e-5)
    shifted = {**params, "b_dec_D": params["b_dec_D"] + 1}
    encode = lambda params: module.apply({"params": params}, x, method="encode").val
    np.testing.assert_array_equal(encode(shifted), encode(params))


def test_one_latent_settles_half_the_coefficient_below_its_input():
    sparsity, c = 0.4, 1.5
    module = dictionaries.make("relu", d_in=D, n_latents=1, sparsity=sparsity)
    d = jnp.ones((1, D)) / D**0.5
    params = {"W_enc_FD": d, "W_dec_FD": d, "b_enc_F": jnp.zeros(1), "b_dec_D": jnp.zeros(D)}
    x = c * d

    def loss(b_enc_F):
        out = module.apply({"params": {**params, "b_enc_F": b_enc_F}}, x, jnp.zeros(1, bool))
        return (((out.y_BD - x) ** 2).sum(-1) + out.penalty_B).mean()

    b = jnp.zeros(1)
    for _ in range(60):
        b = b - 0.2 * jax.grad(loss)(b)
    f = module.apply({"params": {**params, "b_enc_F": b}}, x, method="encode").val
    np.testing.assert_allclose(f, [[c - sparsity / 2]], rtol=1e-5)


def test_a_gated_dictionary_is_a_jumprelu():
    gated, variables, x = built("gated", sparsity=0.1)
    jump, converted = gated_to_jumprelu(gated, variables)
    params = converted["params"]
    assert (params["log_threshold_F"] == -jnp.inf).any(), "no threshold clipped at zero"
    assert jnp.isfinite(params["log_threshold_F"]).any()
    codes = gated.apply(variables, x, method="encode")
    found = jump.apply({"params": params}, x, method="encode")
    assert 0.1 < (codes.val > 0).mean() < 0.9
    np.testing.assert_allclose(found.val, codes.val, atol=1e-6)
    y = gated.apply(variables, codes, method="decode")
    np.testing.assert_allclose(jump.apply({"params": params}, found, method="decode"), y, atol=1e-6)


def test_the_gate_learns_from_its_own_reconstruction_by_a_frozen_decoder():
    module, variables, x = built("gated", sparsity=0.1)

    def other(params):
        ((weight, y_BD),) = forward(module, {"params": params}, x).others
        return weight * ((y_BD - x) ** 2).sum(-1).mean()

    grads = jax.grad(other)(variables["params"])
    assert not np.asarray(grads["W_dec_FD"]).any()
    assert np.abs(grads["W_enc_FD"]).max() > 0
    assert np.abs(grads["b_enc_F"]).max() > 0
    shut = jax.grad(lambda p: (forward(module, {"params": p}, x).y_BD ** 2).sum())
    assert not np.asarray(shut(variables["params"])["b_enc_F"]).any(), "the step passed a gradient"


def test_a_gate_towards_an_l0_follows_the_expected_loss():
    """Its straight-through gradient estimates the derivative of a loss that jumps where a token does."""
    fields = {"penalty": "target_l0", "target_l0": 0.2, "sparsity": 2.0, "bandwidth": 0.1}
    module = dictionaries.make("gated", d_in=1, n_latents=1, **fields)
    x = jax.random.normal(jax.random.key(0), (400_000, 1))
    one = jnp.ones((1, 1))
    params = {"W_enc_FD": one, "W_dec_FD": one, "b_dec_D": jnp.zeros(1)}
    params |= {"r_mag_F": jnp.full(1, 0.2), "b_mag_F": jnp.full(1, 0.3)}

    def loss(b_enc):
        full = {"params": {**params, "b_enc_F": jnp.full(1, b_enc)}}
        out = module.apply(full, x, jnp.zeros(1, bool))
        assert not out.others
        return (((out.y_BD - x) ** 2).sum(-1) + out.penalty_B).mean()

    slope = (loss(-0.95) - loss(-1.05)) / 0.1
    assert abs(slope) > 0.05
    np.testing.assert_allclose(jax.grad(loss)(-1.0), slope, rtol=0.03)


def test_the_l0_penalty_moves_thresholds_alone_and_tanh_moves_all():
    moved = {}
    for penalty in ("l0", "target_l0", "tanh"):
        fields = {"threshold_start": 0.5, "bandwidth": 0.5, "sparsity": 1.0, "penalty": penalty}
        module, variables, x = built("jumprelu", **fields)
        total = lambda params, m=module, x=x: forward(m, {"params": params}, x).penalty_B.sum()
        grads = jax.grad(total)(variables["params"])
        moved[penalty] = {leaf for leaf, grad in grads.items() if np.asarray(grad).any()}
    assert moved["l0"] == moved["target_l0"] == {"log_threshold_F"}
    assert moved["tanh"] == set(variables["params"])


def test_the_penalties_of_jumprelu_are_their_formulae():
    fields = {"threshold_start": 0.5, "bandwidth": 0.5, "sparsity": 0.7, "revival": 0.2}
    fields |= {"tanh_scale": 3.0, "target_l0": 2.0}
    module, variables, x = built("jumprelu", **fields)
    p = {leaf: np.asarray(value, np.float64) for leaf, value in variables["params"].items()}
    z = (np.asarray(x) - p["b_dec_D"]) @ p["W_enc_FD"].T + p["b_enc_F"]
    theta, norms = np.exp(p["log_threshold_F"]), np.linalg.norm(p["W_dec_FD"], axis=1)
    f = np.where(z > theta, z, 0)
    tanh = 0.7 * np.tanh(3 * f * norms).sum(1) + 0.2 * (np.maximum(theta - z, 0) * norms).sum(1)
    l0 = (z > theta).sum(1)
    wanted = {"l0": 0.7 * l0, "tanh": tanh, "target_l0": 0.7 * (l0.mean() / 2 - 1) ** 2}
    for penalty, value in wanted.items():
        found = forward(
            module.clone(activation=module.activation.clone(penalty=penalty)), variables, x
        ).penalty_B
        np.testing.assert_allclose(found, np.broadcast_to(value, 64), rtol=1e-5)


@pytest.mark.parametrize("name", ["relu", "gated", "jumprelu"])
def test_scaling_inputs_biases_and_thresholds_scales_the_codes(name):
    fields = {"threshold_start": 0.3} if name == "jumprelu" else {"sparsity": 0.1}
    module, variables, x = built(name, **fields)
    scaled = {
        leaf: value * 5 if leaf[:2] == "b_" else value
        for leaf, value in variables["params"].items()
    }
    if name == "jumprelu":
        scaled["log_threshold_F"] = scaled["log_threshold_F"] + jnp.log(5.0)
    found = module.apply({"params": scaled}, 5 * x, method="encode").val
    wanted = 5 * module.apply(variables, x, method="encode").val
    assert (wanted > 0).any()
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("subtract_b_dec", [True, False])
def test_density_start_is_the_share_of_tokens_on_which_each_latent_fires(subtract_b_dec):
    config = planted_config(
        "jumprelu",
        batch_size=1000,
        dictionary={"density_start": 0.1, "subtract_b_dec": subtract_b_dec, "enc_scale": 0.5},
    )
    programs, states, _ = run(config, 0)
    variables = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), states[programs[0].key].variables)
    x = open_stream(config).batches[0].x_BD
    codes = programs[0].module({}).apply(variables, x, method="encode")
    np.testing.assert_allclose((codes.val > 0).mean(0), 0.1, atol=2e-3)
    ratio = variables["params"]["W_enc_FD"] / variables["params"]["W_dec_FD"]
    np.testing.assert_allclose(ratio, 0.5, rtol=1e-5)
    y = Batch(x, x)
    untouched = dictionaries.make("jumprelu", d_in=32, n_latents=64).start(
        jax.random.key(0), variables, y
    )
    assert untouched is variables


ANNEAL = {"anneal_start": 100, "anneal_end": 300, "n_updates": 2, "p_end": 0.2, "sparsity": 0.3}


def annealed(n_steps, **fields):
    """(module, variables) of p_anneal after `n_steps`, and a batch that it did not see."""
    config = planted_config(
        "p_anneal", steps=400, batch_size=512, dictionary={**ANNEAL, "n_latents": 128, **fields}
    )
    programs, states, _ = run(config, n_steps)
    x = jnp.asarray(open_stream(config).batches[n_steps].x_BD)
    variables = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), states[programs[0].key].variables)
    return programs[0].module({}), variables, x


@pytest.mark.parametrize(("step", "p"), [(200, 0.6), (300, 0.2)])
def test_where_p_changes_the_loss_does_not(step, p):
    module, variables, x = annealed(step)
    stats = variables["stats"]
    assert stats["step"] == step

    def at(step):
        alive = jnp.zeros(128, bool)
        now = {**variables, "stats": {**stats, "step": jnp.int32(step)}}
        out, changed = module.apply(now, x, alive, mutable=["stats"])
        return float((((out.y_BD - x) ** 2).sum(-1) + out.penalty_B).mean()), changed["stats"]

    before, _ = at(step - 1)
    after, changed = at(step)
    assert changed["updates"] == stats["updates"] + 1
    np.testing.assert_allclose(module.activation._p(changed["updates"]), p, rtol=1e-6)
    assert abs(after / before - 1) < 0.01, after / before
    assert abs(changed["scale"] / stats["scale"] - 1) > 0.05, "without the scale it would jump"


def test_before_annealing_it_is_a_relu():
    rows = []
    for name in ("p_anneal", "relu"):
        _, states, _ = run(planted_config(name), 5)
        (state,) = states.values()
        rows.append(state.variables["params"])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), *rows)


@pytest.mark.parametrize("name", ["batch_topk", "gated", "jumprelu", "matryoshka"])
def test_where_codes_are_computed_sparsely_the_reconstruction_is_that_of_the_codes(name):
    """1024 latents are enough for that, and a token of many active ones is treated apart."""
    own = {"k": 8.0, "sparsity": 0.1}
    fields = {key: own[key] for key in own if key in dictionaries.fields(name)}
    module = dictionaries.make(name, d_in=D, n_latents=1024, **fields)
    x, alive = jax.random.normal(jax.random.key(0), (64, D)), jnp.zeros(1024, bool)
    x = D**0.5 * x / jnp.linalg.norm(x, axis=1, keepdims=True) * jnp.ones((64, 1)).at[5].set(1.6)
    variables = module.init(jax.random.key(1), x, alive)
    variables = {**variables, "params": {**variables["params"], "b_enc_F": jnp.full(1024, -1.6)}}
    out = module.apply(variables, x, alive, mutable=["stats"])[0]
    n_B = np.asarray((out.codes.val > 0).sum(1))
    assert np.flatnonzero(n_B > (24 if "k" in fields else 96)).tolist() == [5]
    found = module.apply(variables, out.codes, method="decode")
    np.testing.assert_allclose(out.y_BD, found, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("p_anneal", {"anneal_start": 0, "anneal_end": 4, "n_updates": 2, "queue": 2}),
        ("jumprelu", {"penalty": "target_l0", "threshold_start": 0.1, "bandwidth": 0.5}),
        ("gated", {"penalty": "target_l0", "sparsity": 0.1, "bandwidth": 0.5}),
    ],
)
def test_what_a_penalty_reads_of_the_batch_is_the_whole_batchs(name, fields):
    config = planted_config(name, dictionary=fields, rule={"warmup_steps": 100})
    _, whole, infos = run(config, 5)
    _, split, split_infos = run(config, 5, mesh_of(1, 2, 2))
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    jax.tree.map(close, (split, split_infos), (whole, infos))
    if name == "p_anneal":
        (state,) = whole.values()
        np.testing.assert_array_equal(state.variables["stats"]["updates"], [2])


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("relu", {"sparsity": 1.0, "penalty": "l2"}, "'l2'.*l1, sqrt, tanh"),
        ("jumprelu", {"penalty": "l1"}, "'l1'.*l0, tanh, target_l0"),
        ("jumprelu", {"kernel": "box"}, "'box'.*rectangle, triangle, gaussian"),
        ("jumprelu", {"bandwidth": 0.0}, "bandwidth=0.0"),
        ("jumprelu", {"density_start": 1.0}, "density_start=1.0.*0 and 1"),
        ("p_anneal", {"sparsity": 1.0, "p_end": 0}, "p_end=0.*0"),
        ("p_anneal", {"sparsity": 1.0, "anneal_end": 15_005}, "anneal_end - anneal_start = 5"),
        ("p_anneal", {"sparsity": 1.0, "queue": 0}, "queue=0.*1"),
    ],
)
def test_a_bad_field_is_refused_with_its_bound(name, fields, message):
    with pytest.raises(ValueError, match=message):
        built(name, **fields)
