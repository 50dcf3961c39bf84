"""A circuit planted in a toy transformer is found by the codes of its heads, and not under shuffled labels."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn.circuits import head_codes
from dictlearn.lm import decoder
from dictlearn.lm.spec import random_params
from tests.helpers import planted_config, run
from tests.lm.toy import SPEC

HEADS, PAIRS = 16, 8
CIRCUIT = np.isin(np.arange(HEADS), [2, 7, 11])
POSITIVE = np.arange(2 * PAIRS) % 2 == 0


def heads_outputs():
    """z [examples x heads, width] at the last position of pairs of prompts that differ in one token. It is a
    marker that the values of three heads read, or one that nothing reads. Attention is uniform."""
    spec = replace(
        SPEC, n_layers=1, d_model=32, n_heads=HEADS, n_kv_heads=HEADS, head_dim=4, vocab=20
    )
    params = random_params(spec, jax.random.key(0))
    block = dict(params["block_0"])
    block["W_q_DH"] = jnp.zeros_like(block["W_q_DH"])
    reads = jnp.repeat(jnp.asarray(CIRCUIT, jnp.float32), 4)
    block["W_v_DG"] = block["W_v_DG"].at[0].set(6 * reads).at[1].set(0)
    embed = params["embed_VD"].at[:, :2].set(0)
    embed = embed.at[18].set(embed[19]).at[18, 0].set(1.0).at[19, 1].set(1.0)
    rest = np.random.default_rng(0).integers(18, size=(PAIRS, 5))
    tokens = np.stack([np.insert(row, 2, 18 if good else 19) for row in rest for good in (1, 0)])
    read = jax.jit(lambda params: decoder.forward(spec, params, tokens)[1]["attn_z.0"])
    z = read({**params, "embed_VD": embed, "block_0": block})
    return np.asarray(z[:, -1]).reshape(-1, 4)


@pytest.fixture(scope="module")
def codes(tmp_path_factory):
    """The code of each head on each example, of an autoencoder of all of them, and its dense codes."""
    z = heads_outputs()
    path = tmp_path_factory.mktemp("heads") / "z.npy"
    np.save(path, z)
    config = planted_config(
        "relu",
        stream={"name": "npy", "path": str(path), "normalise": "unit_mean_sq", "block_rows": 1},
        dictionary={"sparsity": 0.02, "n_latents": 100},
        rule={"lr": 1e-2, "warmup_steps": 10},
    )
    del config["stream"]["kind"]
    (program,), states, _ = run(config, 100)
    variables = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), states[program.key].variables)
    scale = 1 / np.sqrt((z**2).sum(1).mean())
    dense = np.asarray(
        program.module({}).apply(variables, jnp.asarray(z * scale), method="encode").val
    )
    return head_codes.discretise(dense, HEADS), dense


def test_the_planted_heads_score_and_no_others_do(codes):
    code, _ = codes
    score = head_codes.node_scores(code, POSITIVE)
    assert head_codes.auc(score, CIRCUIT) >= 0.95
    precision, recall = head_codes.precision_recall(score, CIRCUIT, 0.5)
    assert (precision, recall) == (1.0, 1.0)
    edges = head_codes.edge_scores(code, POSITIVE)
    np.testing.assert_array_equal(edges.diagonal(), score)
    assert edges[np.ix_(CIRCUIT, CIRCUIT)].min() > edges[np.ix_(CIRCUIT, ~CIRCUIT)].max()


def test_shuffled_labels_find_nothing(codes):
    random, shuffled = np.random.default_rng(0), []
    for _ in range(50):
        score = head_codes.node_scores(codes[0], random.permutation(POSITIVE))
        shuffled.append(head_codes.auc(score, CIRCUIT))
    assert np.mean(shuffled) < 0.7


def test_the_order_of_latents_does_not_matter(codes):
    code, dense = codes
    other = head_codes.discretise(
        dense[:, np.random.default_rng(1).permutation(dense.shape[1])], HEADS
    )
    for scores in (head_codes.node_scores, head_codes.edge_scores):
        np.testing.assert_array_equal(scores(code, POSITIVE), scores(other, POSITIVE))


def test_scores_have_their_values_and_bad_input_is_refused():
    code = np.array([[1, 5], [2, 5], [1, 6], [3, 5]])
    positive = np.array([True, True, False, False])
    assert head_codes.node_scores(code, positive).tolist() == [0.5, 0.0]
    assert head_codes.precision_recall(np.array([0.2, 0.1]), np.array([True, False]), 0.5) == (1, 0)
    assert head_codes.auc(np.array([0.5, 0.5]), np.array([True, False])) == 0.5
    assert head_codes.discretise(np.array([[0.0, 0.0], [0.0, 2.0]]), 1).tolist() == [[-1], [1]]
    with pytest.raises(ValueError, match="both are needed"):
        head_codes.node_scores(code, np.ones(4, bool))
    with pytest.raises(ValueError, match=r"n_heads=3\b.*\b4\b"):
        head_codes.discretise(np.zeros((4, 2)), 3)
