"""Transcoders and skip transcoders: recovery of a planted MLP, and their initialisation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn import dictionaries, objectives, rules
from dictlearn.learners import start
from dictlearn.learners.gradient import gradient
from dictlearn.normalise import Norm
from dictlearn.runs.fold import fold_normalisation
from dictlearn.runs.trained import reconstruct
from dictlearn.types import Batch, Codes, Out

D, HIDDEN = 16, 24


def learner(name="topk", skips=False, steps=500, lr=1e-2, zeros=False, **fields):
    fields = {"d_in": D, "d_out": D, "skip": skips, **fields}
    own = {"atoms_start": "zeros", "b_enc_start": "centred"} if zeros else {}
    return gradient(
        dictionaries.make(name, **fields),
        objectives.make("fvu"),
        rules.make("adam", lr=lr, steps=steps, warmup_steps=1, decay_fraction=0.5, unit_norm=False),
        start(**{"b_dec_start": "mean", **own}),
    )


def planted():
    """Weights of an MLP whose neurons fire on one token in fourteen, and a linear map beside it."""
    k_in, k_out, k_linear = jax.random.split(jax.random.key(0), 3)
    unit = lambda key: (
        (w := jax.random.normal(key, (HIDDEN, D))) / jnp.linalg.norm(w, axis=1)[:, None]
    )
    return unit(k_in), unit(k_out), 0.5 * jax.random.normal(k_linear, (D, D))


def batches(key, n_steps, n_tokens=256, linear=0.0):
    W_in_FD, W_out_FD, M_DD = planted()
    x_BD = jax.random.normal(key, (n_steps, n_tokens, D))
    y_BD = 4 * jax.nn.relu(x_BD @ W_in_FD.T - 1.5) @ W_out_FD + linear * x_BD @ M_DD.T
    return Batch(x_BD, y_BD)


def trained(learner, data):
    step = lambda state, batch: (learner.update(state, batch)[0], None)
    first = jax.tree.map(lambda a: a[0], data)

    @jax.jit
    def whole(key):
        return jax.lax.scan(step, learner.init(key, first), data)[0]

    return whole(jax.random.key(1)).variables


def fvu(module, variables, batch):
    yhat_BD, _ = reconstruct(module, Norm(), variables, batch.x_BD)
    return float(objectives.fvu(Out(yhat_BD, Codes(yhat_BD), yhat_BD), batch).mean())


def cosines(a_FD, b_FD):
    unit = lambda W: W / jnp.linalg.norm(W, axis=1, keepdims=True)
    return jnp.abs(unit(a_FD) @ unit(b_FD).T).max(1)


def test_a_transcoder_finds_the_neurons_of_a_sparse_mlp():
    fields = {"n_latents": 2 * HIDDEN, "sparsity": 0.002}
    variables = trained(learner("relu", steps=800, **fields), batches(jax.random.key(2), 800))
    params, (W_in_FD, W_out_FD, _) = variables["params"], planted()
    assert float(jnp.mean(cosines(W_in_FD, params["W_enc_FD"]) > 0.95)) > 0.9
    assert float(jnp.mean(cosines(W_out_FD, params["W_dec_FD"]) > 0.95)) > 0.9


def test_the_linear_part_of_an_mlp_is_in_the_skip_and_without_one_is_not_explained():
    data = batches(jax.random.key(2), 500, linear=1.0)
    test = jax.tree.map(lambda a: a[0], batches(jax.random.key(3), 1, linear=1.0))
    fields = {"n_latents": 2 * HIDDEN, "k": 3}
    module = dictionaries.make("topk", d_in=D, d_out=D, **fields)
    skipping = module.clone(skip=True)
    plain, with_skip = (
        trained(learner(skips=skips, zeros=skips, **fields), data) for skips in (False, True)
    )
    found_DD, M_DD = with_skip["params"]["W_skip_DD"], planted()[2]
    assert jnp.linalg.norm(found_DD - M_DD) < 0.15 * jnp.linalg.norm(M_DD)
    assert fvu(skipping, with_skip, test) < 0.04
    assert fvu(module, plain, test) > 0.1


def test_from_atoms_of_zero_the_first_step_moves_all_but_the_encoder():
    data = jax.tree.map(lambda a: a[0], batches(jax.random.key(2), 1, linear=1.0))
    train = learner(skips=True, zeros=True, n_latents=32, k=3)
    first = jax.jit(lambda key: train.init(key, data))(jax.random.key(1))
    params = first.variables["params"]
    np.testing.assert_allclose(
        (data.x_BD @ params["W_enc_FD"].T + params["b_enc_F"]).mean(0), 0, atol=1e-5
    )
    np.testing.assert_allclose(params["b_dec_D"], data.y_BD.mean(0), rtol=1e-6)
    after = jax.jit(train.update)(first, data)[0].variables["params"]
    moved = {name for name in params if float(jnp.abs(after[name] - params[name]).max()) > 1e-6}
    assert moved == {"W_dec_FD", "b_dec_D", "W_skip_DD"}


def test_a_folded_skip_transcoder_is_the_same_function_of_raw_activations():
    variables = {"params": {"W_skip_DD": jax.random.normal(jax.random.key(4), (D, D))}}
    module = dictionaries.make("relu", d_in=D, d_out=D, n_latents=8, sparsity=0.1, skip=True)
    x_BD = jax.random.normal(jax.random.key(5), (4, D))
    own = module.init(jax.random.key(6), x_BD, jnp.zeros(8, bool))["params"]
    variables["params"] = own | variables["params"]
    norm = Norm("unit_mean_sq", 0.5, 4.0)
    raw, _ = reconstruct(module, norm, variables, x_BD)
    folded, _ = reconstruct(module, Norm(), fold_normalisation(norm, module, variables), x_BD)
    np.testing.assert_allclose(folded, raw, rtol=1e-5, atol=1e-6)


def test_an_autoencoder_has_no_skip():
    data = Batch(jnp.ones((8, D)), jnp.ones((8, D)))
    with pytest.raises(ValueError, match="skip=True"):
        learner(skips=True, n_latents=8, k=2, d_out=None).init(jax.random.key(0), data)
