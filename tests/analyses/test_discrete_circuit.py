"""A planted circuit of heads is found by its codes, and heads are kept and taken out as told."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn import analyses, tasks
from dictlearn.analyses import Subject, _head_prompts, discrete_circuit
from dictlearn.analyses._head_prompts import Answered, Examples
from dictlearn.circuits import graph, head_codes, tied
from dictlearn.tasks import Task
from tests.lm.toy import SPEC, spoken_lm

HEADS, N, WIDTH = 144, 20, 32
CIRCUIT = np.arange(HEADS) % 7 == 3
CIRCUIT[140:] = False
POSITIVE = np.arange(N) < N // 2


@functools.cache
def outputs():
    """Each head has two of 40 clusters, one on half of the examples: the positive ones in the circuit, and any
    elsewhere."""
    random = np.random.default_rng(0)
    centre_CW = random.normal(size=(40, WIDTH))
    centre_CW /= np.linalg.norm(centre_CW, axis=1, keepdims=True)
    own_h2 = np.stack([random.permutation(40)[:2] for _ in range(HEADS)])
    any_Nh = random.permuted(np.tile(POSITIVE, (HEADS, 1)), axis=1).T
    which_Nh = np.where(CIRCUIT, POSITIVE[:, None], any_Nh).astype(int)
    z_NhW = centre_CW[own_h2[np.arange(HEADS), which_Nh]]
    return z_NhW + 0.05 * random.normal(size=z_NhW.shape)


@functools.cache
def codes(n_latents=200):
    return head_codes.coded(outputs(), tied.How(n_latents, epochs=150), 0)


def test_planted_heads_are_found_and_shuffled_labels_find_none():
    assert CIRCUIT.sum() == 20
    node_h, edge_hh, chance_h = discrete_circuit.scored(codes(), POSITIVE, 0)
    assert head_codes.auc(node_h, CIRCUIT) >= 0.95
    random = np.random.default_rng(1)
    shuffled = [head_codes.node_scores(codes(), random.permutation(POSITIVE)) for _ in range(40)]
    assert np.mean([head_codes.auc(one, CIRCUIT) for one in shuffled]) == pytest.approx(
        0.5, abs=0.05
    )
    assert chance_h[CIRCUIT].mean() < 0.25 < 0.8 < node_h[CIRCUIT].mean()
    inside_hh = edge_hh[np.ix_(CIRCUIT, CIRCUIT)]
    assert inside_hh.mean() > 0.8 > 0.2 > edge_hh[np.ix_(CIRCUIT, ~CIRCUIT)].mean()


def test_too_few_latents_find_less():
    assert head_codes.auc(head_codes.node_scores(codes(2), POSITIVE), CIRCUIT) < 0.9


def test_scores_do_not_depend_on_the_order_of_latents():
    other = np.random.default_rng(2).permutation(200)[codes()]
    for mine, turned in zip(
        discrete_circuit.scored(codes(), POSITIVE, 0),
        discrete_circuit.scored(other, POSITIVE, 0),
        strict=True,
    ):
        np.testing.assert_array_equal(mine, turned)


def test_the_circuit_and_random_heads_from_outside_are_kept_and_taken_out():
    how = discrete_circuit.How("last", 1, 1, (10, 20), 4)
    node_h, chance_h = np.where(CIRCUIT, 0.9, 0.1), np.arange(HEADS) / HEADS
    m = lambda kept_h: float(CIRCUIT[kept_h].sum())
    found = discrete_circuit.tested(m, node_h, chance_h, how, 0)
    last = CIRCUIT[-20:].sum()
    assert found["kept"][20] == {"score": 20, "shuffled labels": last, "random": 0}
    assert found["out"][20] == {"score": 0, "shuffled labels": 20 - last, "random": 20}
    assert found["kept"][10]["score"] == 10 > 3 > found["kept"][10]["random"]


def test_a_graph_of_heads_has_edges_to_later_layers_and_is_saved(tmp_path):
    node_h = np.arange(8) / 8
    edge_hh = np.arange(64.0).reshape(8, 8)
    found = head_codes.graph(node_h, edge_hh, np.array([6, 1, 3]), 4, model="toy")
    graph.save(found, tmp_path / "a.graph")
    back = graph.load(tmp_path / "a.graph")
    assert [(one.kind, one.layer, one.index) for one in back.nodes()] == [
        ("latent", 0, 1),
        ("latent", 1, 1),
        ("latent", 3, 0),
    ]
    assert back.values_N.tolist() == [1 / 8, 3 / 8, 6 / 8]
    np.testing.assert_array_equal(back.edges_MM, [[0, 0, 0], [25, 0, 0], [49, 51, 0]])
    assert (back.n_active, back.model) == (7, "toy")


def examples():
    random = np.random.default_rng(0)
    drawn = lambda: [[0, *random.integers(1, 200, 5).tolist()] for _ in range(3)]
    return Examples(drawn(), drawn(), np.array([7, 8, 9]), np.array([17, 18, 19]))


def test_ablated_heads_have_their_mean_on_negatives_and_kept_heads_their_own():
    lm, own = spoken_lm(), examples()
    n_heads, width = SPEC.n_layers * SPEC.n_heads, SPEC.head_dim
    answered = Answered(lm, own)
    tokens, negative = np.array(own.positive), np.array(own.negative)
    rows = np.arange(3)
    of = lambda logits: float(
        (logits[rows, -1, own.right_N] - logits[rows, -1, own.wrong_N]).mean()
    )
    whole = of(lm.forward(lm.params, tokens)[0])
    assert answered.difference(np.ones(n_heads, bool)) == pytest.approx(whole, abs=1e-4)
    kept_h = np.ones(n_heads, bool)
    kept_h[[5, 10]] = False  # The second head of the second layer, and the third of the third.
    means = {tap: one.mean(0) for tap, one in lm.forward(lm.params, negative)[1].items()}
    edits = {}
    for tap, head in (("attn_z.1", 1), ("attn_z.2", 2)):
        at = slice(head * width, (head + 1) * width)
        edits[tap] = lambda x, mask, taps, at=at, tap=tap: x.at[:, 1:, at].set(
            means[tap][None, 1:, at]
        )
    wanted = of(lm.forward(lm.params, tokens, edits=edits, mask_BT=jnp.ones(tokens.shape, bool))[0])
    assert answered.difference(kept_h) == pytest.approx(wanted, abs=1e-4)
    assert abs(wanted - whole) > 1e-3


def test_heads_are_read_at_the_last_token_or_on_the_mean():
    lm, prompts = spoken_lm(), examples().positive
    taps = lm.forward(lm.params, np.array(prompts))[1]
    z_NThw = jnp.stack([taps[f"attn_z.{i}"] for i in range(SPEC.n_layers)], axis=2)
    z_NThw = z_NThw.reshape(3, 6, SPEC.n_layers * SPEC.n_heads, SPEC.head_dim)
    for place, wanted in (("last", z_NThw[:, -1]), ("mean", z_NThw[:, 1:].mean(1))):
        np.testing.assert_allclose(_head_prompts.outputs(lm, prompts, place), wanted, atol=1e-5)


def test_prompts_come_in_turn_and_a_third_name_takes_the_subjects_place():
    task = tasks.make("ioi_prompts", n_names=3, negatives=True)
    found = _head_prompts.examples(spoken_lm(), _alone(task), ("ABB", "BAB"), "io", "s")
    assert len(found.positive) == len(found.negative) == 36
    assert (
        task.text[0].replace(" and", "").split()[:3] == task.text[1].replace(" and", "").split()[:3]
    )
    s_S, third_S = task.attributes["s"], [text.split(", ")[1].split()[0] for text in task.text]
    assert all(
        (s == third) == (i % 2 == 0) for i, (s, third) in enumerate(zip(s_S, third_S, strict=True))
    )
    assert {*third_S} == {*s_S.tolist()}
    with pytest.raises(ValueError, match="in turn"):
        _head_prompts.examples(spoken_lm(), task, ("ABB",), "io", "s")
    with pytest.raises(ValueError, match="'giver' is no attribute"):
        _head_prompts.examples(spoken_lm(), task, ("ABB", "BAB"), "giver", "s")


def _alone(task: Task) -> Task:
    """The answers as letters, which a tokenizer of bytes tells apart."""
    names = sorted({*task.attributes["io"].tolist(), *task.attributes["s"].tolist()})
    letter = np.array(list("abcdefghij"))
    own = {key: letter[np.searchsorted(names, task.attributes[key])] for key in ("io", "s")}
    return task._replace(attributes=own)


@pytest.mark.parametrize(
    "bad",
    [{"place": "first"}, {"n": 0}, {"sizes": (7,)}, {"known": ((3, 0),)}, {"lr": 0}, {"n": 99}],
)
def test_settings_out_of_bounds_are_refused(bad, monkeypatch):
    subject = Subject("toy")
    subject.__dict__["lm"] = spoken_lm()
    given = {"n_names": 2, "negatives": True}
    settings = {"given": given, "sizes": (2,), "n": 4, "n_test": 4, **bad}
    with pytest.raises(ValueError, match=next(iter(bad))):
        analyses.run("discrete_circuit", [subject], **settings)
