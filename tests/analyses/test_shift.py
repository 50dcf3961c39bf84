"""SHIFT mends a classifier of a planted attribute where latents carry it alone, not where they are mixed."""

import dataclasses
import functools
import json

import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn import analyses, dictionaries, tasks
from dictlearn.analyses import _asked
from dictlearn.analyses._shift import Texts
from dictlearn.analyses.scr import bias, crossed
from dictlearn.analyses.shift import LABELS, How, Listed, _judged, accuracies, score
from dictlearn.lm.taps import tapper
from dictlearn.ops.sparse_probes.logistic import Probe
from dictlearn.runs.trained import Site, Trained
from dictlearn.tasks._words import CLASSES
from dictlearn.tasks.planted import _WEATHERS
from tests.lm.toy import toy_lm

D, PAIR = 12, ("fruit", "metal")
DATA = _asked.Data("planted", n_train=240, n_test=160, context=16, seed=0, model="", tap="")
KINDS = (*PAIR, "dry", "wet")
STRENGTHS = (2.0, 2.0, 3.0, 3.0)
HOW = How(threshold=0.02, most=50, n_effects=40, seed=0, judged=None)


def lm():
    """A model of two sites: the embedding, and twice the embedding. Tokens 1 to 4 have a direction each."""

    def forward(params, tokens, edits=None, mask_BT=None, freeze=()):
        tap = tapper(edits or {}, mask_BT, taps := {})
        x = tap("embed", params["table"][tokens])
        return tap("resid.0", 2 * x), taps

    table_VD = 0.3 * np.random.default_rng(0).normal(size=(40, D))
    table_VD[:5] = 0
    table_VD[np.arange(1, 5), np.arange(4)] = STRENGTHS
    params = {"table": jnp.asarray(table_VD, jnp.float32)}
    return dataclasses.replace(toy_lm(), forward=forward, params=params)


def dictionary(tap="resid.0", turn_DD=None):
    """Latents i and i + D are the positive and the negative part along axis i."""
    axes_DD = np.eye(D) if turn_DD is None else turn_DD
    module = dictionaries.make("relu", d_in=D, n_latents=2 * D, sparsity=0.1)
    rows_FD = jnp.asarray(np.concatenate([axes_DD, -axes_DD]), jnp.float32)
    params = {"W_enc_FD": rows_FD, "W_dec_FD": rows_FD}
    params |= {"b_enc_F": jnp.zeros(2 * D), "b_dec_D": jnp.zeros(D)}
    return Trained(module, {"params": params}, sites=(Site({}, (tap,), (tap,), {}),), name=tap)


@functools.cache
def drawn():
    return crossed(tasks.make("planted", classes=PAIR, n=300, weather=1), PAIR, {}, DATA)


@functools.cache
def documents():
    """Words as tokens: 1 to 4 for the words of a class or a weather, the others from 5 on."""
    own = CLASSES | _WEATHERS
    known = {word: at for at, kind in enumerate(KINDS, 1) for word in own[kind]}
    token = lambda word: known.get(word, 5 + sum(map(ord, word)) % 35)
    return [[0, *map(token, text.split())] for text in drawn().text]


def texts(*trained):
    return Texts(lm(), trained or [dictionary()], "resid.0", documents())


def test_latents_of_the_attribute_are_found_and_taking_them_out_mends_the_classifier():
    """T-D5."""
    found = score(texts(), drawn(), HOW)
    assert found.taken_out == {"resid.0": [2, 3]} or found.taken_out == {"resid.0": [3, 2]}
    assert {one.latent for one in found.listed} >= {0, 1, 2, 3}
    by = found.accuracies
    assert by["original"]["spurious"] > 0.8
    assert by["original"]["worst_group"] < 0.3
    for method in ("shift", "retrained", "bottleneck"):
        assert by[method]["spurious"] == pytest.approx(0.5, abs=0.05)
    for method in ("retrained", "bottleneck", "oracle"):
        assert by[method]["worst_group"] > 0.9
    assert by["skyline"]["spurious"] == pytest.approx(0.5, abs=0.05)


def test_mixed_latents_and_a_judge_who_is_wrong_mend_nothing():
    turn_DD = np.linalg.qr(np.random.default_rng(1).normal(size=(D, D)))[0]
    mixed = score(texts(dictionary(turn_DD=turn_DD)), drawn(), HOW).accuracies
    assert mixed["retrained"]["worst_group"] < 0.9
    wrong = score(texts(), drawn(), HOW._replace(judged={"resid.0": [0, 1]}))
    assert wrong.taken_out == {"resid.0": [0, 1]}
    assert wrong.accuracies["retrained"]["spurious"] > 0.95
    assert [one.latent for one in wrong.listed if one.spurious] in ([0, 1], [1, 0])
    right = score(texts(), drawn(), HOW._replace(judged={"resid.0": [2, 3]}))
    assert right.accuracies["retrained"]["worst_group"] > 0.9


def test_effects_are_exact_where_the_model_is_linear_and_sites_are_taken_out_downstream():
    both = texts(dictionary("embed"), dictionary("resid.0"))
    random = np.random.default_rng(0)
    probe = Probe(random.normal(size=D), 0.3)
    chosen_S, positive_S = np.arange(11), np.arange(11) % 2 == 0
    found = both.effects(chosen_S, positive_S, probe)
    codes = both.whole[1]
    sign_S1 = np.where(positive_S, -1, 1)[:, None]
    atoms_FD = np.concatenate([np.eye(D), -np.eye(D)])
    for tap, scale in (("embed", 2), ("resid.0", 1)):
        wanted_F = (sign_S1 * codes[tap][:11] * (scale * atoms_FD @ probe.w_D)).mean(0)
        # The effects are sums over tokens of a mean: the number of tokens cancels.
        np.testing.assert_allclose(found[tap], wanted_F, rtol=1e-4, atol=1e-5)
    x_SD = both.whole[0]
    below_SD = both.without({"embed": [2]})
    np.testing.assert_allclose(
        x_SD - below_SD, 2 * codes["embed"][:, [2]] * np.eye(D)[2], atol=1e-5
    )
    assert np.abs(x_SD - below_SD).max() > 0.1


def test_a_transcoder_is_taken_out_of_what_it_writes():
    sites = (Site({}, ("embed",), ("resid.0",), {}),)
    one = texts(dataclasses.replace(dictionary(), sites=sites))
    change_SD = one.whole[0] - one.without({"resid.0": [2]})
    code_S = one.whole[1]["resid.0"][:, 2]
    np.testing.assert_allclose(change_SD, code_S[:, None] * np.eye(D)[2], atol=1e-5)
    alone = texts(dictionary("embed")).whole[1]["embed"][:, 2]
    np.testing.assert_allclose(code_S, alone, atol=1e-5)
    assert code_S.max() > 0.1


def test_accuracies_by_hand():
    row_SD = np.array([[1.0], [1], [-1], [-1], [-1], [1], [-1], [-1]])
    tests = [np.array([0, 1]), np.array([2, 3]), np.array([4, 5]), np.array([6, 7])]
    found = accuracies(row_SD, Probe(np.ones(1), 0.0), tests)
    assert found == {"intended": 0.625, "spurious": 0.875, "worst_group": 0.0}


def test_what_no_judge_can_say_is_refused(tmp_path):
    path = tmp_path / "judge.json"
    for text in ("[1]", '{"resid.0": "2"}', '{"resid.0": [1.5]}'):
        path.write_text(text)
        with pytest.raises(ValueError, match="tap"):
            _judged(str(path))
    path.write_text(json.dumps({"resid.0": [2, 3]}))
    assert _judged(str(path)) == {"resid.0": [2, 3]}
    assert _judged(LABELS) is None
    for removed in ({"resid.7": [1]}, {"resid.0": [24]}):
        with pytest.raises(ValueError, match="24"):
            texts().without(removed)
    with pytest.raises(ValueError, match="threshold=-1"):
        analyses.make("shift")([], threshold=-1)


def test_what_is_listed_is_judged_by_balanced_documents():
    one = texts()
    found = score(one, drawn(), HOW._replace(most=2))
    assert len(found.listed) == 2
    assert all(isinstance(each, Listed) for each in found.listed)
    concepts = bias(one.whole[0], drawn(), 0).concepts
    for each in found.listed:
        code_S = one.whole[1]["resid.0"][:, each.latent]
        for asked, value in zip(concepts, (each.between_classes, each.between_values), strict=True):
            y_B = asked.positive(asked.train_S)
            own_B = code_S[asked.train_S]
            assert own_B[y_B].mean() - own_B[~y_B].mean() == pytest.approx(value, abs=1e-5)
