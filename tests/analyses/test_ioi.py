"""Supervised dictionaries find planted attributes, edits by them are exact, and those by a rotation are not."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from dictlearn import analyses, tasks
from dictlearn.analyses import Subject, _ioi, _names, ioi
from dictlearn.analyses._ioi import Basis, greedy, mean_codes, mse_codes, single_f1, union_f1
from dictlearn.analyses._names import Prompts
from dictlearn.lm import LM
from tests.lm.toy import SPEC

NAMES, WIDTH = 6, 24


def design(repeats):
    """Every combination of an indirect object, a subject and an order, equally often."""
    every = itertools.product(range(repeats), range(NAMES), range(NAMES), range(2))
    _, io_S, s_S, pos_S = np.array(list(every)).T
    return {"io": io_S, "s": s_S, "pos": pos_S}


def truth(width, random):
    """Centred directions of each value."""
    drawn = {"io": NAMES, "s": NAMES, "pos": 2}
    found = {name: 2 * random.normal(size=(n, width)) for name, n in drawn.items()}
    return {name: one - one.mean(0) for name, one in found.items()}


def planted(attributes, of, random, noise=0.05):
    x_SD = 3 + sum(of[name][value_S] for name, value_S in attributes.items())
    return x_SD + noise * random.normal(size=x_SD.shape)


def error(basis, of):
    return np.abs(basis.atoms_FD - np.concatenate(list(of.values()))).max()


def test_mean_codes_are_mse_codes_and_the_truth_where_attributes_are_independent():
    """T-G1."""
    random = np.random.default_rng(0)
    of, attributes = truth(8, random), design(160)
    x_SD = planted(attributes, of, random)
    by_mean, by_squares = mean_codes(x_SD, attributes), mse_codes(x_SD, attributes)
    np.testing.assert_allclose(by_mean.atoms_FD, by_squares.atoms_FD, atol=1e-6)
    assert error(by_mean, of) < 0.004
    copied_S = random.random(len(x_SD)) < 0.6
    tied = {**attributes, "s": np.where(copied_S, attributes["io"], attributes["s"])}
    x_SD = planted(tied, of, random)
    assert error(mean_codes(x_SD, tied), of) > 1
    assert error(mse_codes(x_SD, tied), of) < 0.004


ATOMS_DD = np.linalg.qr(np.random.default_rng(1).normal(size=(WIDTH, WIDTH)))[0]
"""The first rows are the directions of indirect objects, then of subjects, then of orders."""
HOW = ioi.How(("io",), (1, 2), 0.8)


@functools.cache
def site():
    """Activations whose attributes have a direction each, and a linear model that says the indirect object."""
    attributes = design(1)
    hot = [_ioi.one_hot(one) for one in attributes.values()]
    code_SF = np.pad(np.concatenate(hot, 1), ((0, 0), (0, WIDTH - 2 * NAMES - 2)))
    values = {"order": attributes.pop("pos"), **attributes, "template": np.zeros(len(code_SF), int)}
    io_S, s_S = values["io"], NAMES + values["s"]
    names_ND = np.concatenate([5 * ATOMS_DD[:NAMES], ATOMS_DD[NAMES : 2 * NAMES]])
    none = np.zeros(0)
    prompts = Prompts(none, none, none, code_SF @ ATOMS_DD + 0.3, io_S, s_S, none, values)
    return ioi.Site.of(lambda x_SD: x_SD @ names_ND.T, prompts, HOW, 0), code_SF


def test_true_codes_edit_exactly_and_a_rotation_does_not():
    """T-G2."""
    own, code_SF = site()
    assert own.told["right"] == 1
    assert own.told["unedited_io"] == 0
    true = ioi.scored(own, Basis(code_SF, ATOMS_DD, np.full(WIDTH, 0.3)), HOW)
    supervised = ioi.scored(
        own, mean_codes(own.x_SD, {n: own.values[n] for n in ioi.ATTRIBUTES}), HOW
    )
    for found in (true, supervised):
        assert found["sufficiency"] == pytest.approx(1)
        assert found["necessity"] == pytest.approx(1)
        assert found["guided_edit_io_1"] == 1
        assert found["edit_io_2"] == 1
        assert found["beside_io_2"] == pytest.approx(0, abs=1e-6)
        assert found["interpretable"] == 1
    assert true["guided_magnitude_io_1"] == pytest.approx(1 / 3)
    turn_DD = np.linalg.qr(np.random.default_rng(2).normal(size=(WIDTH, WIDTH)))[0]
    turned = ioi.scored(own, Basis(own.x_SD @ turn_DD.T, turn_DD, np.zeros(WIDTH)), HOW)
    assert turned["sufficiency"] == pytest.approx(1)
    assert turned["necessity"] == pytest.approx(1)
    assert turned["edit_io_1"] < 0.2
    assert turned["guided_edit_io_1"] < 0.2
    assert turned["interpretable"] < 0.3


def test_the_truth_of_an_edit_is_the_counterparts_activation_in_the_prompt_itself():
    """A model that reads the object elsewhere too is not moved by the site, and so no edit should move it."""
    own, code_SF = site()
    elsewhere_SN = 100 * _ioi.one_hot(np.append(own.io_S, 2 * NAMES - 1))[:-1]
    prompts = Prompts(*[np.zeros(0)] * 3, own.x_SD, own.io_S, own.s_S, np.zeros(0), own.values)
    still = ioi.Site.of(lambda x_SD: own.head(x_SD) + elsewhere_SN, prompts, HOW, 0)
    assert still.told["unedited_io"] == 1
    found = ioi.scored(still, Basis(code_SF, ATOMS_DD, np.full(WIDTH, 0.3)), HOW)
    assert (found["edit_io_2"], found["guided_edit_io_1"]) == (1, 1)


def test_weights_sum_to_one_and_greedy_is_exact_for_orthogonal_atoms():
    """T-G3."""
    random = np.random.default_rng(3)
    code_SF, atoms_FD = random.random((9, 7)), random.normal(size=(7, 5))
    np.testing.assert_allclose(Basis(code_SF, atoms_FD, np.ones(5)).weight_SF.sum(1), 1)
    wanted_SD, change_SF = random.normal(size=(9, 5)), random.normal(size=(9, 7))
    chosen_SK, used_SK = greedy(wanted_SD, change_SF, atoms_FD, 7)
    assert all(len({*row}) == 7 for row in chosen_SK.tolist())
    by_SK = np.take_along_axis(change_SF, chosen_SK, 1) * used_SK
    step_SKD = by_SK[..., None] * atoms_FD[chosen_SK]
    left_SK = np.linalg.norm(wanted_SD[:, None] - step_SKD.cumsum(1), axis=2)
    assert (np.diff(left_SK, axis=1) <= 1e-9).all()
    axes_DD = ATOMS_DD[:5, :5]
    axes_DD = np.linalg.qr(axes_DD)[0]
    change_SD = random.normal(size=(9, 5))
    chosen_SK, used_SK = greedy(wanted_SD, change_SD, axes_DD, 2)
    for s, wanted_D in enumerate(wanted_SD):
        far = lambda some, s=s, w=wanted_D: np.linalg.norm(w - change_SD[s, some] @ axes_DD[some])
        best = min(
            far(list(some)) for n in range(3) for some in itertools.combinations(range(5), n)
        )
        assert far(chosen_SK[s][used_SK[s]]) == pytest.approx(best)


def test_a_latent_of_three_names_is_their_union():
    """T-G4."""
    value_S = np.arange(80) % 8
    on_SF = np.stack([np.isin(value_S, (1, 4, 6)), value_S == 2, np.ones(80, bool)], 1)
    assert single_f1(on_SF, value_S).max(1)[:2] == pytest.approx([0.5, 1])
    found_F = union_f1(on_SF, value_S)
    assert found_F[:2] == pytest.approx([1, 1])
    assert found_F[2] < 0.7  # A latent that always fires is no union.


def words(texts):
    """A tokenizer of whole words."""
    every = sorted({word for text in texts for word in text.replace(",", " ,").split()})
    vocab = {word: i for i, word in enumerate(("<s>", *every))}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<s>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer, vocab


def lm_of(task):
    """A model that says the last name but one, of those that a prompt has: the indirect object of ABB alone."""
    tokenizer, vocab = words(task.text)
    spec = dataclasses.replace(SPEC, vocab=len(vocab), d_model=len(vocab))
    is_name_V = jnp.isin(jnp.arange(len(vocab)), jnp.array([vocab[n] for n in names_of(task)]))

    def forward(params, tokens_BT, edits=None, mask_BT=None):
        x_BTV = jax.nn.one_hot(tokens_BT, len(vocab))
        for edit in (edits or {}).values():
            x_BTV = edit(x_BTV, mask_BT, {})
        return jnp.cumsum(x_BTV, 1) * is_name_V, {"resid.0": x_BTV}

    return LM("toy", spec, {}, tokenizer, 0, {}, forward), vocab


def names_of(task):
    return {*task.attributes["io"].tolist(), *task.attributes["s"].tolist()}


def test_prompts_are_read_at_the_subject_or_at_the_end_and_edits_reach_the_logits():
    task = tasks.make("ioi_prompts", n_names=3)
    lm, vocab = lm_of(task)
    at_end, at_s = (_names.read(lm, "resid.0", task, place) for place in _names.PLACES)
    ends = [text.split()[-1] for text in task.text]
    assert at_end.x_SD.argmax(1).tolist() == [vocab[word] for word in ends]
    assert at_s.x_SD.argmax(1).tolist() == [vocab[name] for name in task.attributes["s"]]
    assert [at_s.name_N[s] for s in at_s.io_S] == [vocab[name] for name in task.attributes["io"]]
    logits_SN = _names.logits(lm, "resid.0", at_s, at_s.x_SD)
    assert ioi.difference(logits_SN, at_s.io_S, at_s.s_S) == -1  # The subject is there twice.
    nothing_SN = _names.logits(lm, "resid.0", at_s, np.zeros_like(at_s.x_SD))
    assert ioi.difference(nothing_SN, at_s.io_S, at_s.s_S) == 0


def test_a_counterpart_differs_in_one_attribute_alone():
    task = tasks.make("ioi_prompts", n_names=3)
    prompts = _names.read(lm_of(task)[0], "resid.0", task, "end")
    for name in ioi.ATTRIBUTES:
        at_S = prompts.partners(name, 0)
        for one, value_S in prompts.values.items():
            assert (value_S[at_S] == value_S).all() == (one != name)
            assert (value_S[at_S] != value_S).all() == (one == name)


def test_names_that_begin_alike_are_told_apart_by_their_next_token_or_refused():
    characters = Tokenizer(models.BPE({c: i for i, c in enumerate(" AnBob")}, []))
    letters = LM("letters", SPEC, {}, characters, 0, {}, lambda *given: None)
    shared, name_N = _names.next_tokens(letters, ["Ann", "Bob"])
    assert (shared, name_N.tolist()) == ([0], [1, 3])
    with pytest.raises(ValueError, match="does not tell the names"):
        _names.next_tokens(letters, ["Ann", "Anb", "Bob"])


@pytest.mark.parametrize(
    "bad", [{"ks": ()}, {"attributes": ("verb",)}, {"f1": 0}, {"place": "start"}]
)
def test_settings_out_of_bounds_are_refused_before_the_model_runs(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        analyses.run("ioi", [Subject("nothing")], **bad)
