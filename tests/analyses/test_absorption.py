"""Latents that take a letter's words over are found, clean ones are not, and the rules have their values."""

import jax
import numpy as np
import pytest

from dictlearn import analyses, dictionaries
from dictlearn.analyses import _ablated, _absorption, absorption
from dictlearn.analyses._ablated import Basis
from dictlearn.analyses._absorption import absorbed, fraction, measured, n_main
from dictlearn.analyses._probing import RANDOM
from dictlearn.ops.sparse_probes import logistic
from dictlearn.runs.trained import Trained
from dictlearn.tasks import Task
from tests.lm.toy import spoken_lm

N_LETTERS, EACH, TAKEN = 3, 40, 12
WIDTH = 40


def test_the_fraction_by_hand():
    """T-B2a: P_M, the absorbers, P_x."""
    cases = {
        (1, (3, 1), 10): 0.8,
        (1, (2.9,), 10): 0,
        (1, (3, 1), 4): 0.75,
        (0, (5,), 10): 1,
        (6, (10,), 10): 0.4,
        (6, (), 5): 0,
    }
    main, others, whole = zip(*cases, strict=True)
    given = (np.array(one, float) for one in (main, [sum(each) for each in others], whole))
    assert fraction(*given) == pytest.approx(list(cases.values()))


def test_the_share_of_words_that_a_word_latent_takes_over():
    """T-B2b: seven of ten words fire the letter's latent, three a latent of their own."""
    code_BF = np.zeros((10, 4))
    code_BF[:7, 0] = 3
    code_BF[[7, 8, 9], [1, 2, 3]] = 5
    cosine_F = np.array([1, 0.6, 0.6, 0.6])
    found = absorbed(np.full(10, 3.0), code_BF, cosine_F, np.array([0]))
    assert [each.mean() for each in found] == [pytest.approx(0.3)] * 2


@pytest.mark.parametrize(("f1", "k"), [((0.70, 0.74, 0.76, 0.90), 2), ((0.70, 0.72, 0.80), 1)])
def test_the_first_latent_that_does_not_help_ends_the_main_ones(f1, k):
    """T-B2c."""
    assert n_main(f1) == k


def planted():
    """Words of three letters, and the codes of a dictionary that does not absorb, and of one that does. Some
    words have a direction of their own: it has a latent, or one latent carries it and the letter's."""
    random = np.random.default_rng(0)
    letter_S = np.arange(N_LETTERS * EACH) % N_LETTERS
    letters_SL = (letter_S[:, None] == np.arange(N_LETTERS)).astype(float)
    own_SW = np.zeros((len(letter_S), WIDTH - N_LETTERS))
    taken = np.arange(N_LETTERS * TAKEN)
    own_SW[taken, taken] = 1
    clean_SF, eye = np.hstack([3 * letters_SL, 4 * own_SW]), np.eye(WIDTH)
    x_SD = clean_SF + 0.01 * random.normal(size=clean_SF.shape)
    both_FD = eye.copy()
    both_FD[N_LETTERS + taken] = 0.8 * eye[N_LETTERS + taken] + 0.6 * eye[letter_S[taken]]
    codes_SF = clean_SF.copy()
    codes_SF[taken, letter_S[taken]], codes_SF[taken, N_LETTERS + taken] = 0, 5
    assert np.allclose(codes_SF @ both_FD, clean_SF)
    return x_SD, letter_S, Basis(clean_SF, eye), Basis(codes_SF, both_FD)


def test_a_dictionary_that_absorbs_scores_and_one_that_does_not_scores_none():
    x_SD, letter_S, clean, absorbing = planted()
    test_S = np.random.default_rng(1).random(len(x_SD)) < 0.25
    words = _absorption.words(x_SD, letter_S, tuple("ABC"), test_S)
    assert words.f1_Q.tolist() == [1, 1, 1]
    share = np.mean(np.flatnonzero(test_S) < N_LETTERS * TAKEN)
    mean = lambda labels, of: np.concatenate([getattr(one, of) for one in labels]).mean()
    found = measured(words, absorbing, fewest=3)
    assert [one.main.tolist() for one in found] == [[0], [1], [2]]
    assert mean(found, "full_B") == pytest.approx(share)
    assert mean(found, "fraction_B") == pytest.approx(share)
    # Another unit of the codes changes nothing.
    scaled = Basis(absorbing.code_SF / 7, 7 * absorbing.atoms_FD)
    assert mean(measured(words, scaled, fewest=3), "full_B") == pytest.approx(share)
    none = measured(words, clean, fewest=3)
    assert mean(none, "full_B") == mean(none, "fraction_B") == 0
    assert measured(words, clean, fewest=100) == []


def test_the_sparse_probe_of_many_latents_is_its_optimum(monkeypatch):
    random = np.random.default_rng(0)
    x_BF = np.maximum(random.normal(size=(80, 30)), 0)
    y_B = x_BF[:, 3] + x_BF[:, 4] - x_BF[:, 5] > 0.5
    whole_F = _absorption._lasso(x_BF, y_B)
    monkeypatch.setattr(_absorption, "_COLUMNS", 4)
    few_F = _absorption._lasso(x_BF, y_B)
    np.testing.assert_allclose(few_F, whole_F, atol=2e-3)
    assert 4 < np.count_nonzero(whole_F) < 30


def test_the_probes_of_letters_are_their_optimum():
    random = np.random.default_rng(0)
    x_BD = random.normal(size=(60, 5)) * [1, 1, 1, 30, 1] + 7
    y_QB = np.stack([x_BD[:, 0] + random.normal(size=60) > 8, x_BD[:, 3] > 0])
    found = _absorption.probes(x_BD, y_QB)
    weight_QB = np.stack([*map(_absorption._weights, y_QB)])
    exact = logistic.labels(x_BD, y_QB, weight_QB, c=1 / (60 * _absorption._DECAY))
    logits = lambda probe: x_BD @ probe.w_D.T + probe.b
    np.testing.assert_allclose(logits(found), logits(exact), rtol=1e-2, atol=1e-2)


def test_dictionaries_of_one_width_and_l0_share_a_random_one_that_is_measured_once(monkeypatch):
    x_SD = np.random.default_rng(0).normal(size=(40, 12)).astype(np.float32)
    made = []
    for seed, (name, k) in enumerate({"a": 2, "b": 2, "c": 5}.items()):
        module = dictionaries.make("topk", d_in=12, n_latents=32, k=k)
        variables = module.init(jax.random.key(seed), method="declare")
        made.append(Trained(module, variables, name=name))
    bases, l0 = _ablated.bases(analyses.Subject("three", given=made), x_SD, 0)
    assert bases[RANDOM, "a"] is bases[RANDOM, "b"] is not bases[RANDOM, "c"]
    assert [round(l0[RANDOM, name]) for name in "abc"] == [2, 2, 5]
    asked = []
    monkeypatch.setattr(
        _absorption, "measured", lambda of, basis, fewest: asked.append(basis) or []
    )
    task = Task(tuple("AB" * 20), np.array([*"AB"] * 20))
    found = absorption._found(x_SD, task, bases, [np.arange(40) % 5 == 0], 1)
    assert len(asked) == 3 + 2 + 2
    assert found.keys() == bases.keys()
    assert all(len(each) == 1 for each in found.values())


def test_a_word_is_read_where_it_ends_under_words_of_its_own_part():
    lm, names = spoken_lm(), tuple("ab")
    task = Task(tuple(f" w{names[i % 2]}" for i in range(12)), np.array([*"AB"] * 6))
    part_S = np.arange(12) % 2
    for s, ids in enumerate(absorption._prompts(lm, task, part_S, 3, 0)):
        assert ids[0] == lm.separator
        _, *above, word = lm.tokenizer.decode(ids[1:]).split("\n")
        assert word == task.text[s]
        letter = task.label_S[s]
        assert above == [f"{task.text[s]} has the first letter: {letter}"] * 3


@pytest.mark.parametrize("bad", [{"splits": 6}, {"n_examples": -1}, {"min_words": 0}])
def test_settings_out_of_bounds_are_refused_before_the_model_runs(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        analyses.run("absorption", [analyses.Subject("nothing")], **bad)
