"""ITDA: a token joins if the dictionary does not explain it, and is known by where it came from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from dictlearn import dictionaries, experiment
from dictlearn.analyses._alignment import jaccard
from dictlearn.analyses.similarity import keys
from dictlearn.experiment.stream import carried
from dictlearn.learners.itda import itda
from dictlearn.ops.firing import dense
from dictlearn.types import Batch
from tests.helpers import mesh_of, planted_config, run

D, F, K, B, T = 16, 512, 3, 64, 6
MODULE = dictionaries.make("itda", d_in=D, n_latents=F, k=K)


def fold(x_TBD, **settings):
    """(variables, infos) after every batch in turn."""
    learner = itda(MODULE, steps=T, **settings)
    step_T, row_B = jnp.arange(T, dtype=jnp.int32), jnp.arange(B, dtype=jnp.int32)
    where = (jnp.broadcast_to(step_T[:, None], (T, B)), jnp.broadcast_to(row_B, (T, B)))
    batches = Batch(x_TBD, x_TBD, *where)
    state = learner.init(jax.random.key(0), jax.tree.map(lambda leaf: leaf[0], batches))
    state, infos = lax.scan(learner.update, state, batches)
    return learner.variables(state), infos


encode = jax.jit(lambda variables, x_BD: MODULE.apply(variables, x_BD, method="encode"))
decode = jax.jit(lambda variables, codes: MODULE.apply(variables, codes, method="decode"))
by_tolerance = jax.jit(
    lambda x, tau, cosine=0.9999: fold(x, tolerance=tau, duplicate_cosine=cosine)
)
by_size = jax.jit(lambda x_TBD, size: fold(x_TBD, size=size))


def planted(seed=0, atoms=None):
    """Three of 48 atoms a token, coefficients of norm 1, and noise."""
    random = np.random.default_rng(seed)
    atoms = random.standard_normal((48, D)) / np.sqrt(D) if atoms is None else atoms
    idx = random.integers(0, len(atoms), (T, B, 3))
    x = (random.uniform(0.5, 1.5, (T, B, 3, 1)) * atoms[idx]).sum(2)
    return (x + 0.02 * random.standard_normal(x.shape)).astype(np.float32)


def test_a_rotation_of_the_activations_gives_the_same_keys():
    x = planted()
    Q = np.linalg.qr(np.random.default_rng(1).standard_normal((D, D)))[0].astype(np.float32)
    noise = 0.1 * np.random.default_rng(2).standard_normal(x.shape).astype(np.float32)
    noisy = x + noise * x.std()
    mine, turned, near, other = (
        keys(by_tolerance(data, 0.15)[0]) for data in (x, x @ Q, noisy, planted(seed=7))
    )
    assert jaccard(mine, turned) == 1.0
    assert 1 > jaccard(mine, near) > jaccard(mine, other) + 0.1
    assert B < len(mine) < T * B


def test_the_size_falls_and_the_error_rises_with_the_tolerance():
    found = [by_tolerance(planted(), tau) for tau in (0.05, 0.2, 0.5)]
    sizes = [int(variables["stats"]["n_atoms"]) for variables, _ in found]
    losses = [float(infos["loss"][1:].mean()) for _, infos in found]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == 3
    assert losses == sorted(losses)


def test_a_wanted_size_is_met_by_the_tokens_explained_worst():
    for size in (40, 100, 200):
        variables, infos = by_size(planted(), size)
        assert int(variables["stats"]["n_atoms"]) == size
        assert (np.diff(infos["atoms"]) > 0).all()
        assert not np.asarray(variables["params"]["W_dec_FD"])[size:].any()
    assert np.all(infos["least_error"][1:] > 0.05)


def test_planted_atoms_are_found_once_each_if_duplicates_in_a_batch_are_left_out():
    atoms = np.linalg.qr(np.random.default_rng(3).standard_normal((D, D)))[0]
    random = np.random.default_rng(4)
    scale = random.uniform(0.5, 2, (T, B, 1))
    x = scale * atoms[random.integers(0, D, (T, B))]
    pairs = x + scale * atoms[random.integers(0, D, (T, B))]
    x[2:] = pairs[2:]
    x = (x + 1e-3 * random.standard_normal(x.shape)).astype(np.float32)
    variables, _ = by_tolerance(x, 0.01)
    found = np.asarray(variables["params"]["W_dec_FD"])[: int(variables["stats"]["n_atoms"])]
    assert len(found) == D
    assert (np.abs(atoms @ found.T).max(1) > 0.999).all()
    careless, _ = by_tolerance(x, 0.01, 2.0)
    assert int(careless["stats"]["n_atoms"]) > 2 * D


def test_atoms_are_the_tokens_their_keys_name_in_the_order_of_the_stream():
    x = planted()
    variables, _ = by_tolerance(x, 0.3)
    stats, n = variables["stats"], int(variables["stats"]["n_atoms"])
    step, row = (np.asarray(stats[leaf])[:n] for leaf in ("sequence_F", "position_F"))
    tokens = x[step, row]
    unit = tokens / np.linalg.norm(tokens, axis=1, keepdims=True)
    np.testing.assert_allclose(variables["params"]["W_dec_FD"][:n], unit, atol=1e-6)
    assert (np.diff(step * B + row) > 0).all()
    codes = encode(variables, tokens[:B])
    np.testing.assert_allclose(decode(variables, codes), tokens[:B], atol=1e-5)
    np.testing.assert_array_equal(dense(codes, F).argmax(1), np.arange(B))


def test_codes_are_matching_pursuit_by_magnitude():
    x, (variables, _) = planted(seed=5)[0], by_tolerance(planted(), 0.3)
    atoms = np.asarray(variables["params"]["W_dec_FD"], np.float64)
    codes = np.zeros((B, F))
    for token, code in zip(x.astype(np.float64), codes, strict=True):
        left = token.copy()
        for _ in range(K):
            score = atoms @ left
            best = np.abs(score).argmax()
            code[best] += score[best]
            left -= score[best] * atoms[best]
    found = dense(encode(variables, x), F)
    np.testing.assert_allclose(found, codes, atol=1e-5)
    assert (codes < 0).any()


def test_sharded_equals_whole_and_a_sweep_over_tolerances_equals_runs_of_their_own():
    config = planted_config("itda", dictionary={"n_latents": 256}, sweep={"tolerance": (0.1, 0.3)})
    del config["learner"]["tolerance"]
    (program,), whole, _ = run(config, 3)
    _, split, _ = run(config, 3, mesh_of(2, 2, 2))
    mine, theirs = (states[program.key].variables for states in (whole, split))
    for leaf, values in mine["stats"].items():
        np.testing.assert_array_equal(theirs["stats"][leaf], values)
    atoms = mine["params"]["W_dec_FD"]
    np.testing.assert_allclose(theirs["params"]["W_dec_FD"], atoms, atol=1e-6)
    sizes = mine["stats"]["n_atoms"].tolist()
    assert 128 < sizes[1] < sizes[0] <= 256
    alone = planted_config("itda", dictionary={"n_latents": 256}, learner={"tolerance": 0.3})
    (one,), states, _ = run(alone, 3)
    own = states[one.key].variables
    for leaf, values in own["stats"].items():
        np.testing.assert_array_equal(mine["stats"][leaf][1], values[0])
    np.testing.assert_allclose(atoms[1], own["params"]["W_dec_FD"][0], atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rule": {"name": "adam"}}, r"config\.rule\b"),
        (
            {"dictionary": {"name": "topk"}},
            r"'topk'.*'gradient'.*'itda'",
        ),
        ({"learner": {"rate": 1}}, r"'rate'.*name, tolerance"),
        ({"learner": {"name": "ksvd"}}, r"'ksvd'.*gradient, itda"),
        ({"learner": {"tolerance": 1.5}}, r"tolerance=1\.5\b.*\[0, 1\)"),
        ({"learner": {"tolerance": None}}, r"tolerance.*\bsize\b"),
    ],
)
def test_what_itda_does_not_read_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        experiment.programs(planted_config("itda", **changes), 32, None)


def test_members_share_what_their_learners_read():
    config = planted_config("topk", learner={"dead_after": 9})
    del config["dictionary"]
    topk = {"dictionary": {"name": "topk", "k": 3}}
    atoms = {"dictionary": {"name": "itda", "k": 3}, "learner": {"name": "itda", "size": 20}}
    config |= {"dictionary": {"n_latents": 64}, "members": {"topk": topk, "atoms": atoms}}
    first, second = experiment.programs(config, 32, None)
    assert first.members[0].hparams["learner"]["dead_after"] == 9
    assert "dead_after" not in second.members[0].hparams["learner"]
    assert "rule" not in second.members[0].hparams
    assert carried(config) == {"keys"}
    assert carried(planted_config("topk")) == set()


def test_batches_without_keys_and_sizes_beyond_the_rows_say_what_to_do():
    x, key = jnp.ones((4, D)), jax.random.key(0)
    learner = itda(MODULE, steps=1, size=F)
    state = jax.eval_shape(lambda: learner.init(key, Batch(x, x)))
    with pytest.raises(ValueError, match="keys=True"):
        jax.eval_shape(lambda: learner.update(state, Batch(x, x)))
    with pytest.raises(ValueError, match=r"size=513\b.*\b512\b"):
        itda(MODULE, steps=1, size=F + 1)
