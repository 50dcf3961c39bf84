"""A planted circuit is found: its latents are faithful and few; neurons and exchanged effects are not."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from dictlearn import analyses, dictionaries, tasks
from dictlearn.analyses import Subject, _pairs
from dictlearn.circuits.effects import Effects
from dictlearn.circuits.faithfulness import above, complement, threshold_of
from dictlearn.lm.taps import tapper
from dictlearn.runs.trained import Site, Trained
from dictlearn.tasks import Task
from dictlearn.tasks.agreement import NOUNS, VERBS
from tests.lm.toy import toy_lm

D = 12
AXES_DD = np.linalg.qr(np.random.default_rng(1).normal(size=(D, D)))[0]
"""The first row is the direction of a noun's number."""
HOW = {"structures": ("simple", "across_rc"), "sizes": (4, 400), "at": 4, "most": 4}
HOW |= {"n_effects": 8, "n_test": 8, "draws": 2, "given": {"n": 32}}


def words():
    """A tokenizer of whole words, and the token of each."""
    task = tasks.make("agreement", n=100)
    texts = [*task.text, *task.attributes["patch"], *(verb for pair in VERBS for verb in pair)]
    vocab = {word: i for i, word in enumerate(("<s>", *sorted({*" ".join(texts).split()})))}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<s>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer, vocab


@functools.cache
def lm():
    """A model that reads the number of the second word at the end, and says the verb that agrees."""
    tokenizer, vocab = words()
    table_VD, says_DV = (
        np.random.default_rng(0).normal(size=(len(vocab), D)),
        np.zeros((D, len(vocab))),
    )
    table_VD[:, 0] = 0
    for pair in (*NOUNS.items(), *VERBS):
        for word, number in zip(pair, (-1.0, 1.0), strict=True):
            if pair in VERBS:
                says_DV[0, vocab[word]] = 3 * number
            else:
                table_VD[vocab[word], 0] = number
    params = {"table": jnp.asarray(table_VD @ AXES_DD, jnp.float32)}
    moves_DD = jnp.asarray(2 * np.outer(AXES_DD[0], AXES_DD[0]), jnp.float32)

    def forward(params, tokens, edits=None, mask_BT=None, freeze=()):
        mask_BT = jnp.ones(tokens.shape, bool) if mask_BT is None else mask_BT
        tap = tapper(edits or {}, mask_BT, taps := {})
        x = tap("embed", params["table"][tokens])
        x = tap("resid.0", x.at[:, -1].add(x[:, 2] @ moves_DD))
        return x @ jnp.asarray(AXES_DD.T @ says_DV, jnp.float32), taps

    spec = dataclasses.replace(toy_lm().spec, vocab=len(vocab))
    return dataclasses.replace(
        toy_lm(), spec=spec, forward=forward, params=params, tokenizer=tokenizer
    )


def dictionary(tap, axes_DD):
    """Latents i and i + D are the positive and the negative part along axis i."""
    module = dictionaries.make("relu", d_in=D, n_latents=2 * D, sparsity=0.1)
    rows_FD = jnp.asarray(np.concatenate([axes_DD, -axes_DD]), jnp.float32)
    params = {"W_enc_FD": rows_FD, "W_dec_FD": rows_FD}
    params |= {"b_enc_F": jnp.zeros(2 * D), "b_dec_D": jnp.zeros(D)}
    return Trained(module, {"params": params}, sites=(Site({}, (tap,), (tap,), {}),), name=tap)


def subjects(axes_DD):
    """A dictionary of each tap with the planted model."""
    both = [Subject.of(dictionary(tap, axes_DD)) for tap in ("resid.0", "embed")]
    for one in both:
        one.__dict__["lm"] = lm()
    return both


def at(values):
    return {(row["structure"], row["kind"]): row for row in values["at"]}


@functools.cache
def found():
    return analyses.run("feature_circuit", subjects(AXES_DD), **HOW).values


@pytest.mark.parametrize("structure", HOW["structures"])
def test_the_latents_of_a_planted_circuit_are_faithful_and_few_and_neurons_are_not(structure):
    rows, own = at(found()), found()["structures"][structure]
    assert (own["right"], own["pairs"]) == (1, 16)
    says = 6 * (
        2 if structure == "across_rc" else 3
    )  # at the end of "simple" the subject counts once more
    assert own["logit_difference"] == pytest.approx(says, rel=1e-3)
    for kind in ("latents", "latents alone"):
        row = rows[structure, kind]
        assert row["nodes"] == 4
        assert row["faithfulness"] == pytest.approx(1, abs=1e-3)
        assert row["completeness"] == pytest.approx(0, abs=1e-3)
        assert row["half_of_it"] is None  # the smallest circuit is already better
    nodes = {(one["tap"], one["latent"] % D) for one in own["nodes"]}
    assert nodes == {("embed", 0), ("resid.0", 0)}
    assert sum(one["effect"] for one in own["nodes"]) == pytest.approx(4 * says, rel=1e-3)
    assert {tuple(one.split()[0] for one in edge[:2]) for edge in own["edges"]} == {
        ("embed", "resid.0")
    }
    assert rows[structure, "neurons"]["faithfulness"] < 0.6
    assert rows[structure, "random order"]["faithfulness"] < 0.3


def test_curves_end_at_the_whole_model_and_a_row_is_the_mean_of_all_structures():
    values = found()
    for own in values["structures"].values():
        for kind, points in own["curves"].items():
            assert points[-1]["faithfulness"] == pytest.approx(1, abs=0.02), kind
    rows = at(values)
    each = [rows[one, "neurons"]["faithfulness"] for one in HOW["structures"]]
    assert rows["mean", "neurons"]["faithfulness"] == pytest.approx(np.mean(each))


def test_latents_of_another_basis_are_as_unfaithful_as_neurons():
    turn_DD = np.linalg.qr(np.random.default_rng(2).normal(size=(D, D)))[0]
    values = analyses.run(
        "feature_circuit", subjects(turn_DD), **HOW | {"structures": ("across_rc",)}
    ).values
    assert at(values)["across_rc", "latents"]["faithfulness"] < 0.6


def effects(seed):
    """Effects at two sites, some of them 0."""
    random = np.random.default_rng(seed)
    one = lambda: Effects(random.normal(size=9) * (np.arange(9) % 3 > 0), np.array(random.normal()))
    return {"a": one(), "b": one()}


@pytest.mark.parametrize("errors", [True, False])
def test_a_threshold_keeps_so_many_nodes_of_largest_effect(errors):
    draw = effects(0)
    size = lambda kept: sum(int(np.sum(leaf)) for leaf in jax.tree.leaves(kept))
    for nodes in range(14 if errors else 12):
        kept = above(draw, threshold_of(draw, nodes, errors), errors)
        assert size(kept) == nodes
        assert size(complement(kept)) == 20 - nodes
    assert size(above(draw, threshold_of(draw, 99, errors), errors)) == (14 if errors else 12)


def test_exchanged_effects_are_the_same_numbers_at_other_nodes_that_have_one():
    draw, other = effects(0), _pairs.shuffled(effects(0), seed=1)
    flat = lambda one: np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(one)])
    np.testing.assert_array_equal(np.sort(flat(draw)), np.sort(flat(other)))
    np.testing.assert_array_equal(flat(draw) == 0, flat(other) == 0)
    assert (flat(draw) != flat(other)).sum() > 8


def test_pairs_that_are_not_aligned_are_left_out_and_what_answers_share_is_in_the_prompt():
    letters = Tokenizer(models.BPE({c: i for i, c in enumerate(" abcisre", 1)}, []))
    model = dataclasses.replace(lm(), tokenizer=letters)
    texts = {"ab": "bb", "ba": "cc", "abc": "ab", "aaa": "bbb"}
    own = {"patch": [*texts.values()], "answer": ["is"] * 4, "patch_answer": ["ire"] * 4}
    task = Task(
        tuple(texts), np.array(["x"] * 4), attributes={k: np.array(v) for k, v in own.items()}
    )
    pairs = _pairs.read(model, task)
    code = lambda text: [0, *letters.encode(text).ids]
    assert pairs.clean_ST.tolist() == [code("ab i"), code("ba i")]
    assert pairs.patch_ST.tolist() == [code("bb i"), code("cc i")]
    assert {*pairs.answer_S, *pairs.other_S} == {code("s")[1], code("r")[1]}
    with pytest.raises(ValueError, match="'abc' and 'ab'"):
        _pairs.read(model, task.where(np.array([False, False, True, False])))
    with pytest.raises(ValueError, match="no attribute 'patch'"):
        _pairs.read(model, Task(("a",), np.array(["x"])))


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"at": 0}, "at=0"),
        ({"sizes": (0,)}, "sizes"),
        ({"method": "exact"}, "method='exact'"),
        ({"draws": 9}, "288 pairs, but 32"),
    ],
)
def test_settings_out_of_bounds_are_refused(bad, said):
    with pytest.raises(ValueError, match=said):
        analyses.run(
            "feature_circuit", subjects(AXES_DD), **HOW | {"n_effects": 16, "n_test": 16} | bad
        )
