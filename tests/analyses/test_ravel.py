"""Latents of one attribute alone move it and nothing else, a rotation of them does not, and the rules have
their values."""

import dataclasses
import functools
import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from dictlearn import analyses, tasks
from dictlearn.analyses import Subject, _asked, _documents, _entities, ravel
from dictlearn.analyses._entities import couples, right
from dictlearn.analyses._interchange import Turned, _rotation, swapped
from dictlearn.lm import LM
from dictlearn.tasks import _entities as about
from tests.analyses.test_unlearning import mirrored
from tests.lm.toy import SPEC

TAP, SIDE = "resid.0", 4
WIDTH = 3 * SIDE
SHAPES, HUES = (("round", "long", "flat", "thin"), ("red", "blue", "grey", "pink"))
ENTITIES = {
    f"e{i}": {"shape": shape, "hue": hue}
    for i, (shape, hue) in enumerate(itertools.product(SHAPES, HUES))
}
TASK = about.task("toy", {"shape": ("the %s form",), "hue": ("the %s tint",)}, ENTITIES)


def forward(asks, params, tokens_BT, edits=None, mask_BT=None):
    """A model of one layer: an entity has a direction for each of its values, and the last word of a prompt
    picks which of the two is said."""
    taps = {TAP: params["embed_VD"][tokens_BT]}
    x_BTD = taps[TAP]
    for edit in (edits or {}).values():
        x_BTD = edit(x_BTD, mask_BT, taps)
    seen_BTD = jnp.cumsum(x_BTD, 1)
    said = lambda side: seen_BTD @ params["said_2DV"][side] * (tokens_BT == asks[side])[..., None]
    return said(0) + said(1), taps


@functools.cache
def planted_lm() -> LM:
    """The model."""
    every = ("<s>", "the", "form", "tint", *SHAPES, *HUES, *ENTITIES)
    vocab = {word: i for i, word in enumerate(every)}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<s>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["<s>"])
    embed_VD = np.zeros((len(vocab), WIDTH), np.float32)
    said_2DV = np.zeros((2, WIDTH, len(vocab)), np.float32)
    for word, own in ENTITIES.items():
        embed_VD[vocab[word], SHAPES.index(own["shape"])] = 1
        embed_VD[vocab[word], SIDE + HUES.index(own["hue"])] = 1
    for i, value in enumerate((*SHAPES, *HUES)):
        said_2DV[i // SIDE, i, vocab[value]] = 5
    params = {"embed_VD": jnp.array(embed_VD), "said_2DV": jnp.array(said_2DV)}
    spec = dataclasses.replace(SPEC, vocab=len(vocab), d_model=WIDTH)
    own = functools.partial(forward, (vocab["form"], vocab["tint"]))
    return LM("planted", spec, params, tokenizer, 0, {}, own)


TURN_DD = np.linalg.qr(np.random.default_rng(0).normal(size=(WIDTH, WIDTH)))[0]
PLANTED, ROTATED = mirrored("planted", np.eye(WIDTH)), mirrored("rotated", TURN_DD)
QUICK = {"n_pairs": 80, "n_tokens": 2}


@functools.cache
def known():
    return _entities.known(planted_lm(), TAP, TASK, 0, 500, 2, 0)


@pytest.fixture
def found(monkeypatch):
    """settings -> the values of the analysis on the planted dictionary and a rotation of it."""
    monkeypatch.setattr(_documents, "site", lambda *given: (planted_lm(), (TAP,)))
    monkeypatch.setattr(_asked, "made", lambda *given: TASK)
    subject = Subject("toy", given=[PLANTED, ROTATED])
    return lambda **more: analyses.run("ravel", [subject], **QUICK, **more).values


def test_a_completion_is_right_if_either_begins_with_the_other():
    assert right("Norway", " Norway, in")
    assert right("United States", ' the United States", "lang')
    assert right("Portuguese", " Port")
    assert not right("Norway", "")
    assert not right("Norway", ' "Norway')
    assert not right("Norway", " in Norway")


def test_prompts_are_read_where_their_entity_ends():
    prompts = known()
    assert prompts.counts == {"hue": 16, "shape": 16}
    assert set(prompts.at_S) == {2}  # the separator, "the", the entity
    at = prompts.entity_S.tolist().index("e6")
    assert np.flatnonzero(prompts.x_SD[at]).tolist() == [1, SIDE + 2]
    assert _entities.known(planted_lm(), TAP, TASK, 0, 3, 2, 0).counts == {"hue": 3, "shape": 3}
    wrong = TASK._replace(attributes={**TASK.attributes, "value": np.full(len(TASK.text), "red")})
    assert _entities.known(planted_lm(), TAP, wrong, 0, 500, 2, 0).counts == {"hue": 4}


def test_pairs_differ_in_the_value_that_is_asked_for_and_none_is_in_both_halves():
    prompts = known()
    train, test = couples(prompts, "shape", 40, 0)
    for one in (train, test):
        assert one.cause_N.mean() == 0.5
        asked_N = prompts.attribute_S[one.base_N]
        assert (asked_N == prompts.attribute_S[one.source_N]).all()
        assert ((asked_N == "shape") == one.cause_N).all()
        assert (prompts.value_S[one.base_N] != prompts.value_S[one.source_N]).all()
    both = [set(zip(one.base_N, one.source_N, strict=True)) for one in (train, test)]
    assert not both[0] & both[1]
    assert len(test.base_N) / len(train.base_N) == pytest.approx(3 / 7, abs=0.1)
    assert couples(prompts.where(prompts.attribute_S == "hue"), "hue", 40, 0) is None


def test_all_latents_move_everything_and_none_moves_nothing():
    """T-B6: the masks of ones and of zeros."""
    run = ravel._Run(planted_lm(), TAP, ravel.How(1e-3, 2, False), 80, 2, 1, 0)
    still = Turned(jnp.eye(WIDTH), jnp.zeros(WIDTH))
    _, test = couples(known(), "hue", 40, 0)
    scored = lambda mask: run.scored(known(), still, np.full(WIDTH, mask, np.float32), test)
    assert scored(0.0) == (0, 1)
    assert scored(1.0) == (1, 0)


def test_latents_of_one_attribute_are_the_ceiling_and_a_rotation_is_lower(found):
    """T-B6."""
    values = found()
    rows = {(row["kind"], *row["dictionaries"]): row for row in values["settings"]}
    for at in (("sae", "planted"), ("llm",), ("mdas",)):
        assert rows[at]["disentanglement_score"] == 1, at
        assert (rows[at]["cause_score"], rows[at]["isolation_score"]) == (1, 1)
    for at in (("sae", "rotated"), ("random", "planted")):
        assert rows[at]["disentanglement_score"] < 0.9, at
    assert rows["pca",]["disentanglement_score"] <= 1
    details = values["dictionaries"]["planted"]["eval_result_details"]
    assert [one["attribute"] for one in details] == ["hue", "shape"]
    assert values["documents"] == {"cities": {"hue": 16, "shape": 16}}
    assert rows["sae", "planted"]["l0"] == 2


def test_the_error_stays_if_asked():
    basis = Turned(jnp.eye(WIDTH)[:3], jnp.zeros(WIDTH))
    base_BD, source_BD = jnp.ones((1, WIDTH)), 3 * jnp.ones((1, WIDTH))
    s_F = jnp.array([0.0, 1.0, 0.5])
    got = swapped(basis, s_F, base_BD, source_BD, False)[0]
    assert got.tolist() == [1, 3, 2, *[0] * (WIDTH - 3)]
    assert swapped(basis, s_F, base_BD, source_BD, True)[0].tolist() == [
        1,
        3,
        2,
        *[1] * (WIDTH - 3),
    ]


def test_a_rotation_stays_a_rotation():
    near_DD = TURN_DD + 0.01 * np.random.default_rng(1).normal(size=(WIDTH, WIDTH))
    near_DD[0] *= np.sign(np.linalg.det(near_DD))
    found_DD = np.asarray(_rotation(jnp.asarray(near_DD)))
    np.testing.assert_allclose(found_DD @ found_DD.T, np.eye(WIDTH), atol=1e-5)
    assert np.linalg.det(found_DD) == pytest.approx(1, abs=1e-4)
    np.testing.assert_allclose(found_DD, near_DD, atol=0.1)


@pytest.mark.parametrize("bad", [{"n_pairs": 0}, {"lr": -1.0}, {"n_prompts": -1}])
def test_settings_out_of_bounds_are_refused_before_the_model_runs(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        analyses.run("ravel", [Subject("nothing")], **bad)


def test_a_task_without_entities_is_refused():
    with pytest.raises(ValueError, match="no attribute 'entity'"):
        _entities.known(planted_lm(), TAP, tasks.make("planted", n=1), 0, 500, 2, 0)
    lost = TASK._replace(attributes={**TASK.attributes, "entity": np.full(len(TASK.text), "Oslo")})
    with pytest.raises(ValueError, match="does not have its entity 'Oslo'"):
        _entities.known(planted_lm(), TAP, lost, 0, 500, 2, 0)
