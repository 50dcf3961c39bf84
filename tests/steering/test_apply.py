"""Interventions change the latents that they name at the tokens that they name, and nothing else."""

import dataclasses
import functools
import json
from typing import Any, cast

import jax
import numpy as np
import pytest

from dictlearn import lm as language
from dictlearn import normalise
from dictlearn.lm import tokenizer
from dictlearn.ops.firing import dense
from dictlearn.steering import Intervention, codes_at_end, edits_of, steer, whole
from tests.lm.toy import tokenizer_metadata

from .conftest import D, F, orthonormal, trained

TOKENS = [[3, 250, 17, 9, 40], [8, 1, 77]]
TAP = "resid.1"
MADE = {
    "topk": lambda: trained("topk", k=4),
    "relu": lambda: trained("relu", sparsity=0.1),
    "jumprelu": lambda: trained("jumprelu", sparsity=0.1),
    "scaled": lambda: trained("topk", k=4, norm=normalise.Norm("unit_mean_sq", 0.2, 0.2)),
    "by token": lambda: trained("topk", k=4, norm=normalise.Norm("token_layernorm")),
    "transcoder": lambda: trained("topk", "mlp_in.1", "mlp_out.1", k=4, d_out=D, skip=True),
}
each = pytest.mark.parametrize("name", MADE)


@functools.partial(jax.jit, static_argnames="forward")
def ran(forward, params, tokens_BP, edits, mask_BP):
    return forward(params, tokens_BP, edits, mask_BP)


def run(lm, dictionary, interventions, strength=1.0):
    """(logits, taps) of the prompts with and without interventions."""
    given = language.prompts(lm, TOKENS)
    edits = edits_of(lm, dictionary, interventions, given, strength).prompt
    return [ran(lm.forward, lm.params, given.tokens_BP, put, whole(given)) for put in ({}, edits)]


def codes(dictionary, taps):
    """The dense codes at the tap that a dictionary reads, `[B, T, F]`."""
    x_BTD = taps[dictionary.sites[0].tap[0]]
    found = dictionary.encode(x_BTD.reshape(-1, x_BTD.shape[-1]))
    return np.asarray(dense(found, dictionary.module.n_latents)).reshape(*x_BTD.shape[:2], -1)


def atoms(dictionary, latents):
    return np.asarray(dictionary.variables["params"]["W_dec_FD"])[list(latents)]


def fires(dictionary, lm):
    """A latent that fires on the second token of the first prompt."""
    _, taps = run(lm, dictionary, Intervention("scale", (0,), 1.0))[0]
    return int(codes(dictionary, taps)[0, 1].argmax())


@each
def test_latents_that_keep_their_values_leave_the_logits_to_the_bit(name, lm):
    dictionary = MADE[name]()
    for one in (
        Intervention("scale", tuple(range(F)), 1.0),
        Intervention("add", (1, 5), 0.0),
        Intervention("mask", tuple(range(F))),
        Intervention("clamp_min", (2, 3), -1e6),
    ):
        (plain, _), (same, _) = run(lm, dictionary, one)
        np.testing.assert_array_equal(same, plain)


@each
def test_set_to_the_value_that_it_has_changes_no_bit(name, lm):
    """Without compilation, so that the value is the one that the edit computes, to the bit."""
    dictionary, given = MADE[name](), language.prompts(lm, TOKENS[:1])
    forward = functools.partial(lm.forward, lm.params, given.tokens_BP)
    with jax.disable_jit():
        plain, taps = forward()
        f_F = codes(dictionary, taps)[0, 1]
        latents = tuple(np.argsort(-f_F)[:3].tolist())
        one = Intervention("set", latents, tuple(f_F[list(latents)].tolist()), positions=(1,))
        same, _ = forward(edits_of(lm, dictionary, one, given).prompt, whole(given))
    assert f_F[latents[0]] > 0
    np.testing.assert_array_equal(same, plain)


@each
def test_set_to_the_value_that_it_has_is_the_identity_and_to_another_is_not(name, lm):
    dictionary = MADE[name]()
    latent = fires(dictionary, lm)
    (plain, taps), _ = run(lm, dictionary, Intervention("scale", (latent,), 1.0))
    value = float(codes(dictionary, taps)[0, 1, latent])
    one = Intervention("set", (latent,), value, positions=(1,))
    np.testing.assert_allclose(run(lm, dictionary, one)[1][0][0], plain[0], atol=1e-5)
    zeroed, _ = run(lm, dictionary, Intervention("set", (latent,), 0.0, positions=(1,)))[1]
    assert np.abs(zeroed[0, 1:5] - plain[0, 1:5]).max() > 1e-3


@each
def test_adding_to_a_latent_adds_its_atom_and_setting_it_does_the_same(name, lm):
    dictionary = MADE[name]()
    target = dictionary.sites[0].target[0]
    latent = fires(dictionary, lm)
    (_, before), (added, after) = run(lm, dictionary, Intervention("add", (latent,), 3.0))
    f = float(codes(dictionary, before)[0, 1, latent])
    moved_BTD = np.asarray(after[target] - before[target])
    assert (moved_BTD[:, 0] == 0).all()
    if dictionary.norm.kind != "token_layernorm":
        expected_D = 3.0 * atoms(dictionary, [latent])[0] / dictionary.norm.scale_out
        np.testing.assert_allclose(moved_BTD[0, 1], expected_D, atol=1e-4)
    place = Intervention("add", (latent,), 3.0, positions=(1,))
    put = Intervention("set", (latent,), f + 3.0, positions=(1,))
    np.testing.assert_allclose(
        run(lm, dictionary, put)[1][0][0], run(lm, dictionary, place)[1][0][0], atol=1e-4
    )
    assert np.abs(added[0, 1:5] - run(lm, dictionary, place)[0][0][0, 1:5]).max() > 1e-3


def test_an_orthonormal_dictionary_encodes_the_values_that_were_set(lm):
    dictionary = orthonormal()
    one = Intervention("set", (2, 7), (1.5, 4.0))
    (_, before), (_, after) = run(lm, dictionary, one)
    old, new = codes(dictionary, before)[0, :5], codes(dictionary, after)[0, :5]
    # A latent at zero may hide a negative coordinate, to which the difference is added.
    hidden = np.minimum(np.asarray(before[TAP][0, :5] @ atoms(dictionary, (2, 7)).T), 0)
    np.testing.assert_allclose(new[1:, [2, 7]], np.array([1.5, 4.0]) + hidden[1:], atol=1e-5)
    others = [i for i in range(D) if i not in (2, 7)]
    np.testing.assert_allclose(new[:, others], old[:, others], atol=1e-5)
    np.testing.assert_array_equal(new[0], old[0])


@each
def test_interventions_on_different_latents_commute(name, lm):
    dictionary = MADE[name]()
    latent = fires(dictionary, lm)
    a = Intervention("scale", (latent,), 3.0)
    b = Intervention("set", ((latent + 1) % F, (latent + 2) % F), (2.0, 1.0), positions="last")
    one, other = (run(lm, dictionary, both)[1][0] for both in ((a, b), (b, a)))
    np.testing.assert_allclose(one, other, atol=1e-5)
    assert np.abs(one - run(lm, dictionary, a)[1][0]).max() > 1e-3


NEW = {
    "set": lambda f: 0 * f + 0.7,
    "scale": lambda f: 0.7 * f,
    "add": lambda f: f + 0.7,
    "clamp_min": lambda f: np.maximum(f, 0.7),
    "clamp_max": lambda f: np.minimum(f, 0.7),
    "clamp_if_active": lambda f: np.where(f != 0, 0.7, f),
}


@pytest.mark.parametrize("op", NEW)
@pytest.mark.parametrize("name", ["topk", "relu"])
def test_an_op_adds_the_decoded_change_of_its_latents(op, name, lm):
    dictionary, latents = MADE[name](), tuple(range(0, F, 3))
    (_, before), (_, after) = run(lm, dictionary, Intervention(op, latents, 0.7))
    f = codes(dictionary, before)[0, 1:5][:, list(latents)]
    expected = (NEW[op](f) - f) @ atoms(dictionary, latents)
    moved = np.asarray(after[TAP] - before[TAP])[0, 1:5]
    np.testing.assert_allclose(moved, expected, atol=1e-4)
    assert np.abs(expected).max() > 1e-2


@pytest.mark.parametrize("name", ["topk", "relu"])
def test_mask_keeps_its_latents_and_takes_every_other_away(name, lm):
    dictionary, latents = MADE[name](), tuple(range(0, F, 3))
    (_, before), (_, after) = run(lm, dictionary, Intervention("mask", latents))
    f = codes(dictionary, before)[0, 1:5].copy()
    f[:, list(latents)] = 0
    moved = np.asarray(after[TAP] - before[TAP])[0, 1:5]
    np.testing.assert_allclose(moved, -f @ atoms(dictionary, range(F)), atol=1e-4)


@each
def test_without_its_error_the_activation_is_the_reconstruction(name, lm):
    dictionary = MADE[name]()
    target = dictionary.sites[0].target[0]
    (_, before), (_, after) = run(lm, dictionary, Intervention("scale", (0,), 1.0, error=False))
    x_BTD = before[dictionary.sites[0].tap[0]]
    yhat = dictionary.reconstruct(x_BTD.reshape(-1, D)).reshape(x_BTD.shape)
    np.testing.assert_allclose(after[target][0, 1:5], yhat[0, 1:5], atol=1e-4)
    np.testing.assert_array_equal(after[target][0, 0], before[target][0, 0])


def test_a_direction_is_added_or_projected_out(lm):
    dictionary, v_D = MADE["topk"](), np.linspace(-1, 2, D)
    along = Intervention("add", direction=tuple(v_D.tolist()), value=2.0)
    (_, before), (_, after) = run(lm, dictionary, along)
    np.testing.assert_allclose((after[TAP] - before[TAP])[0, 2], 2 * v_D, atol=1e-5)
    _, (_, without) = run(lm, dictionary, Intervention("project_out", direction=along.direction))
    np.testing.assert_allclose(without[TAP][0, 1:5] @ v_D, 0, atol=1e-4)
    _, (_, without) = run(lm, dictionary, Intervention("project_out", (4, 9)))
    np.testing.assert_allclose(without[TAP][0, 1:5] @ atoms(dictionary, (4, 9)).T, 0, atol=1e-4)
    _, (_, both) = run(
        lm, dictionary, [along, Intervention("project_out", direction=along.direction)]
    )
    np.testing.assert_allclose(both[TAP][0, 1:5] @ v_D, 0, atol=1e-4)


def test_swap_gives_latents_the_values_of_another_text(lm):
    dictionary = MADE["topk"]()
    words = tokenizer.from_gguf(tokenizer_metadata())
    lm = dataclasses.replace(lm, tokenizer=words)
    f_F = codes_at_end(lm, dictionary, "the cat")
    given = np.array([[lm.separator, *words.encode("the cat").ids]])
    _, taps = lm.forward(lm.params, given)
    np.testing.assert_allclose(f_F, codes(dictionary, taps)[0, -1], atol=1e-5)
    latent = int(f_F.argmax())
    swapped = run(lm, dictionary, Intervention("swap", (latent,), source="the cat"))[1][0]
    put = run(lm, dictionary, Intervention("set", (latent,), float(f_F[latent])))[1][0]
    np.testing.assert_array_equal(swapped, put)
    assert f_F[latent] > 0


@pytest.mark.parametrize(
    ("given", "places"),
    [
        ({}, {1, 2, 3, 4}),
        ({"first": True}, {0, 1, 2, 3, 4}),
        ({"positions": "prompt"}, {1, 2, 3, 4}),
        ({"positions": "last"}, {4}),
        ({"positions": (2, -1)}, {2, 4}),
        ({"after": 250}, {2, 3, 4}),
        ({"after": 250, "positions": "last"}, {4}),
    ],
)
def test_an_intervention_changes_the_tokens_that_it_names(given, places, lm):
    (_, before), (_, after) = run(lm, MADE["topk"](), Intervention("add", (3,), 2.0, **given))
    moved = np.abs(np.asarray(after[TAP] - before[TAP])[0]).max(-1) > 0
    assert set(np.flatnonzero(moved).tolist()) == places


@pytest.mark.parametrize("positions", ["all", "prompt", "generated", "last"])
def test_generation_equals_a_whole_pass_with_the_same_tokens_changed(positions, lm):
    dictionary = MADE["topk"]()
    one = Intervention("add", (3,), 4.0, positions=positions)
    found = steer(lm, dictionary, one, TOKENS, n_tokens=4)
    assert (
        found.tokens_BN != steer(lm, dictionary, one, TOKENS, n_tokens=4, strength=0).tokens_BN
    ).sum() == 0
    for prompt, continued in zip(TOKENS, found.tokens_BN.tolist(), strict=True):
        row = list(prompt)
        for token in continued:
            n, length = len(row), len(prompt)
            changed = {
                "all": range(1, n),
                "prompt": range(1, length),
                "generated": range(length, n),
                "last": [length - 1],
            }[positions]
            logits_V = at_places(lm, dictionary, row, changed)
            assert token == int(logits_V.argmax())
            row.append(token)


def at_places(lm, dictionary, row, changed):
    """The logits after a row whose latent 3 is pushed at some places, by a whole pass."""
    given = language.prompts(lm, [row])
    if not len(changed):
        return lm.forward(lm.params, given.tokens_BP)[0][0, len(row) - 1]
    one = Intervention("add", (3,), 4.0, positions=tuple(changed))
    edits = edits_of(lm, dictionary, one, given).prompt
    logits, _ = ran(lm.forward, lm.params, given.tokens_BP, edits, whole(given))
    return logits[0, len(row) - 1]


def test_a_sweep_of_strengths_is_one_batch_and_compiles_once(lm):
    dictionary, one = MADE["topk"](), Intervention("add", (3,))
    swept = steer(
        lm, dictionary, one, [TOKENS[0]] * 3, n_tokens=3, strength=np.array([0.0, 2.0, 6.0])
    )
    before = cast(Any, ran)._cache_size()
    for row, strength in enumerate((0.0, 2.0, 6.0)):
        alone = steer(lm, dictionary, one, TOKENS[:1], n_tokens=3, strength=strength)
        np.testing.assert_allclose(alone.log_prob_BN[0], swept.log_prob_BN[row], atol=1e-4)
        run(lm, dictionary, Intervention("set", (row,), strength))
    assert cast(Any, ran)._cache_size() <= before + 1


def test_an_intervention_is_the_same_after_json():
    for one in (
        Intervention("set", (3, 4), (1.0, 2.0), positions=(1, -1), error=False),
        Intervention("add", direction=(0.5, -1.0), positions="last", first=True, after=7),
        Intervention("swap", (1,), source="a text"),
    ):
        assert Intervention.of(json.loads(json.dumps(one.told()))) == one


def test_what_cannot_be_done_is_refused(lm):
    dictionary = MADE["topk"]()
    for make, problem in (
        (lambda: Intervention("push", (1,)), "'push'.*set, scale"),
        (lambda: Intervention("set"), "0 latents"),
        (lambda: Intervention("set", direction=(1.0,)), "takes latents"),
        (lambda: Intervention("add", (1,), direction=(1.0,)), "1 latents"),
        (lambda: Intervention("set", (1, 1)), r"\(1, 1\)"),
        (lambda: Intervention("set", (1, 2), (1.0,)), "1 values for 2"),
        (lambda: Intervention("set", (1,), float("nan")), "finite"),
        (lambda: Intervention("mask", (1,), 2.0), "no value"),
        (lambda: Intervention("swap", (1,)), "source"),
        (lambda: Intervention("set", (1,), positions="some"), "'some'.*all, prompt"),
        (lambda: Intervention("add", direction=(0.0, 0.0)), "not zero"),
        (lambda: Intervention.of({"op": "set", "latent": 3}), "latent"),
        (lambda: run(lm, dictionary, ()), "at least one"),
        (lambda: run(lm, dictionary, Intervention("set", (F,), 1.0)), rf"{F}\b.*{F} latents"),
        (lambda: run(lm, dictionary, Intervention("add", direction=(1.0,))), rf"1\b.*{D}"),
        (
            lambda: run(lm, dictionary, Intervention("set", (1,), 1.0, positions=(3,))),
            r"3\b.*3 tok",
        ),
    ):
        with pytest.raises(ValueError, match=problem):
            make()
