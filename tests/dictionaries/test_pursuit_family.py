"""What each of the variants with codes by search, computed atoms or a learned search promises, in the small."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import nnls

from dictlearn import dictionaries
from dictlearn.ops import shrinkage
from dictlearn.ops.firing import dense
from tests.helpers import planted_config, run

D, F, B = 12, 40, 32
ALIVE = jnp.zeros(F, bool)


def built(name, **fields):
    """(module, variables, x)."""
    module = dictionaries.make(name, d_in=D, n_latents=F, **fields)
    x = jax.random.normal(jax.random.key(1), (B, D))
    return module, module.init(jax.random.key(0), x, ALIVE), x


def train(module, variables, x):
    return module.apply(variables, x, ALIVE, mutable=["stats"])[0]


def reconstructed(module, variables, x):
    codes = module.apply(variables, x, method="encode")
    return module.apply(variables, codes, method="decode")


NO_TRANSCODERS = ["codebook", "fista", "icfl", "lista", "masked", "mp", "psd"]


@pytest.mark.parametrize("name", NO_TRANSCODERS)
def test_a_target_of_its_own_is_refused(name):
    knobs = {k: v for k, v in {"k": 3, "sparsity": 0.1}.items() if k in dictionaries.fields(name)}
    with pytest.raises(ValueError, match=r"d_out=7\b.*None"):
        dictionaries.make(name, d_in=D, n_latents=F, d_out=7, **knobs).init(
            jax.random.key(0), jnp.ones((2, D)), ALIVE
        )


def test_one_step_of_mp_is_tied_top_1():
    module, variables, x = built("mp", k=1)
    W = variables["params"]["W_dec_FD"]
    tied = {**variables["params"], "W_enc_FD": W, "b_enc_F": jnp.zeros(F)}
    other = dictionaries.make("topk", d_in=D, n_latents=F, k=1)
    found = reconstructed(module, variables, x)
    np.testing.assert_allclose(found, reconstructed(other, {"params": tied}, x), atol=1e-6)


def test_icfl_with_one_atom_a_round_is_mp_and_gives_codes_no_gradient():
    module, variables, x = built("icfl", k=4)
    mp = dictionaries.make("mp", d_in=D, n_latents=F, k=4)
    codes = module.apply(variables, x, method="encode")
    wanted = mp.apply(variables, x, method="encode")
    np.testing.assert_allclose(dense(codes, F), dense(wanted, F), atol=1e-5)
    loss = lambda params: jnp.sum(train(module, {"params": params}, x).codes.val)
    for slope in jax.tree.leaves(jax.grad(loss)(variables["params"])):
        assert not np.asarray(slope).any()


def test_dropout_hides_other_atoms_every_step_and_none_at_inference():
    module, variables, x = built("mp", k=4, dropout=0.5)
    first, changed = module.apply(variables, x, ALIVE, mutable=["stats"])
    second = train(module, {**variables, **changed}, x)
    used = [set(np.unique(out.codes.idx_BK)) for out in (first, second)]
    assert used[0] != used[1]
    assert max(map(len, used)) < 0.8 * F
    assert len(np.unique(module.apply(variables, x, method="encode").idx_BK)) > 0.8 * F


def test_dead_atoms_are_drawn_towards_what_is_left_over():
    module, variables, x = built("mp", k=2, revive=1e-2)
    dead = jnp.arange(F) < 5
    penalty = lambda W: module.apply(
        {"params": {**variables["params"], "W_dec_FD": W}}, 1 + x, dead, mutable=["stats"]
    )[0].penalty_B.mean()
    W = variables["params"]["W_dec_FD"]
    slope = np.asarray(jax.grad(penalty)(W))
    left = (1 + x - reconstructed(module, variables, 1 + x)).mean(0)
    assert not slope[5:].any()
    assert (-slope[:5] @ np.asarray(left) > 0).all()


def test_lista_starts_as_ista_and_its_penalty_is_the_distance_to_the_minimum():
    module, variables, x = built("lista", sparsity=0.2, layers=7)
    W = variables["params"]["W_dec_FD"]
    found = module.apply(variables, x, method="encode").val
    wanted = shrinkage.ista(x, W, 0.2, 7, positive=True)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    best = shrinkage.fista(x, W, 0.2, 50, positive=True)
    penalty = jnp.sum((best - wanted) ** 2, -1)
    np.testing.assert_allclose(train(module, variables, x).penalty_B, penalty, atol=1e-4)


@pytest.mark.parametrize("name", ["lista", "psd"])
def test_the_penalty_trains_the_encoder_alone_and_the_objective_the_atoms_alone(name):
    module, variables, x = built(name, sparsity=0.2)
    grad = lambda loss: jax.grad(lambda p: loss(train(module, {"params": p}, x)).sum())
    atoms = {"W_dec_FD", "b_dec_D"}
    moved = lambda loss: {
        leaf for leaf, slope in grad(loss)(variables["params"]).items() if np.asarray(slope).any()
    }
    assert moved(lambda out: (out.y_BD - x) ** 2) == atoms
    assert moved(lambda out: out.penalty_B) == set(variables["params"]) - atoms


def test_archetypal_constraints_hold_after_updates_and_atoms_lie_in_the_hull():
    deltas = (0.0, 0.05)
    fields = {"n_latents": 16, "n_points": 40}
    config = planted_config("archetypal", dictionary=fields, sweep={"delta": deltas})
    programs, states, _ = run(config, 3)
    variables = states[programs[0].key].variables
    params, points_NCD = variables["params"], variables["stats"]["points_CD"]
    for n, (delta, points) in enumerate(zip(deltas, points_NCD, strict=True)):
        W, drift = params["mix_FC"][n], params["drift_FD"][n]
        assert W.min() >= 0
        np.testing.assert_allclose(W.sum(1), 1, atol=1e-5)
        assert (W > 0).sum(1).max() > 1, "no row left its vertex"
        length = np.linalg.norm(drift, axis=1).max()
        assert length <= delta + 1e-6
        assert (length > 0) == (delta > 0)
        ones = np.vstack([points.T, np.ones(len(points))])
        away = [nnls(ones, np.append(atom, 1))[1] for atom in W @ points + drift]
        assert max(away) <= delta + 1e-5


def test_archetypal_atoms_start_at_different_points_and_share_them_between_seeds():
    config = planted_config("archetypal", dictionary={"n_latents": 16}, sweep={"seed": (0, 1)})
    programs, states, _ = run(config, 0)
    variables = states[programs[0].key].variables
    points, W = variables["stats"]["points_CD"], variables["params"]["mix_FC"]
    np.testing.assert_array_equal(points[0], points[1])
    assert (W[0] != W[1]).any()
    for each in W:
        assert len(np.unique(each.argmax(1))) == 16
        np.testing.assert_array_equal(np.sort(each, 1)[:, -2:], np.tile([0, 1], (16, 1)))


def test_a_codebook_of_one_euclidean_code_is_vector_quantisation():
    module, variables, x = built("codebook", k=1, score="euclid")
    code = np.asarray(3 * variables["params"]["code_FD"])
    nearest = np.sum((np.asarray(x)[:, None] - code) ** 2, -1).argmin(1)
    found = reconstructed(module, {"params": {"code_FD": jnp.asarray(code)}}, x)
    np.testing.assert_allclose(found, code[nearest], atol=1e-6)


@pytest.mark.parametrize(("combine", "share"), [("mean", 1 / 3), ("sum", 1.0)])
def test_a_codebook_hands_the_gradient_to_its_input_and_the_true_one_to_its_codes(combine, share):
    module, variables, x = built("codebook", k=3, combine=combine)
    slope = jax.random.normal(jax.random.key(5), (B, D))
    y = lambda variables, x: jnp.sum(slope * train(module, variables, x).y_BD)
    to_codes, to_x = jax.grad(y, argnums=(0, 1))(variables, x)
    np.testing.assert_allclose(to_x, slope, atol=1e-6)
    hits = dense(module.apply(variables, x, method="encode"), F) > 0
    assert (hits.sum(1) == 3).all()
    wanted = share * hits.T.astype(float) @ slope
    np.testing.assert_allclose(to_codes["params"]["code_FD"], wanted, atol=1e-5)


def test_masking_hides_gradients_of_observed_coordinates_and_none_is_the_standard_objective():
    fields = {"k": 3, "observed": 0.75}
    module, variables, x = built("masked", **fields)
    loss = lambda params, module: jnp.sum(
        (train(module, {**variables, "params": params}, x).y_BD - x) ** 2
    )
    slope = jax.grad(loss)(variables["params"], module)
    hidden = np.asarray(slope["W_dec_FD"]).any(0)
    assert hidden.sum() == D - 9
    np.testing.assert_array_equal(np.asarray(slope["b_dec_D"]) != 0, hidden)
    y, changed = module.apply(variables, x, ALIVE, mutable=["stats"])
    np.testing.assert_array_equal(np.asarray(y.y_BD == x).all(0), ~hidden)
    again = train(module, {**variables, **changed}, x).y_BD
    assert (np.asarray(again == x).all(0) != ~hidden).any(), "the mask never changes"
    whole = module.clone(observed=1.0)
    y = train(whole, variables, x).y_BD
    np.testing.assert_allclose(y, reconstructed(module, variables, x), atol=1e-6)


def test_csr_reconstructs_with_k_and_with_four_times_k():
    module, variables, x = built("csr", k=3, gamma=0.5)
    out = train(module, variables, x)
    ((weight, many),) = out.others
    topk = lambda k: dictionaries.make("topk", d_in=D, n_latents=F, k=k)
    assert weight == 1 / 8
    np.testing.assert_allclose(out.y_BD, reconstructed(topk(3), variables, x), atol=1e-6)
    np.testing.assert_allclose(many, reconstructed(topk(12), variables, x), atol=1e-6)
    f = dense(out.codes, F)
    f = f / jnp.maximum(jnp.linalg.norm(f, axis=1, keepdims=True), 1e-9)
    alike = jnp.exp(f @ f.T / 0.2)
    wanted = -0.5 * jnp.log(jnp.diag(alike) / alike.sum(1))
    np.testing.assert_allclose(out.penalty_B, wanted, atol=1e-5)
