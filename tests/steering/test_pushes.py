"""A push of a latent that writes several taps adds its atom's part at each of them."""

import dataclasses

import jax
import numpy as np
import pytest

from dictlearn import lm as language
from dictlearn.normalise import Norm
from dictlearn.runs.atoms import atoms
from dictlearn.runs.trained import Site
from dictlearn.steering import Intervention, edits_of, steer, whole

from .conftest import D, F, trained

TOKENS = [[3, 250, 17, 9, 40], [8, 1, 77]]
PLACES = {
    "crosscoder": (("resid.0", "resid.2"),) * 2,
    "clt": (("mlp_in.0", "mlp_in.1", "mlp_in.2"), ("mlp_out.0", "mlp_out.1", "mlp_out.2")),
}
each = pytest.mark.parametrize("name", PLACES)


def made(name, norm=None):
    """A random dictionary of several taps of the toy."""
    read, written = PLACES[name]
    width = len(read) * D
    sizes = {"sources": len(read)} | ({"d_out": width} if name == "clt" else {})
    settings = {"activation": "topk", "k": 4, "d_in": width, **sizes}
    one = trained(name, norm=norm, **settings)
    return dataclasses.replace(one, sites=(Site({"name": "toy"}, read, written, {}),))


def run(lm, edits):
    given = language.prompts(lm, TOKENS)
    program = jax.jit(lambda params: lm.forward(params, given.tokens_BP, edits, whole(given)))
    return program(lm.params)


def edited(lm, one, *chosen, strength=1.0):
    return edits_of(lm, one, chosen, language.prompts(lm, TOKENS), strength).prompt


@each
@pytest.mark.parametrize("norm", [None, Norm("unit_mean_sq", 0.2, 0.4)])
def test_it_is_the_forward_pass_with_its_parts_added(name, norm, lm):
    one, written = made(name, norm), PLACES[name][1]
    parts = np.split(atoms(one), len(written), axis=1)
    found, _ = run(lm, edited(lm, one, Intervention("add", (2, 7), (3.0, -1.0))))
    add = {
        tap: lambda y, mask, taps, part=part: y.at[:, 1:].add(3.0 * part[2] - part[7])
        for tap, part in zip(written, parts, strict=True)
    }
    wanted, _ = run(lm, add)
    plain, _ = run(lm, {})
    for row, tokens in enumerate(TOKENS):
        n = len(tokens)
        np.testing.assert_allclose(found[row, :n], wanted[row, :n], atol=1e-4)
        np.testing.assert_array_equal(found[row, 0], plain[row, 0])
        assert np.abs(found[row, 1:n] - plain[row, 1:n]).max() > 1e-2


@each
def test_nothing_added_is_the_same_to_the_bit_and_pushes_commute(name, lm):
    one = made(name)
    plain, _ = run(lm, {})
    same, _ = run(lm, edited(lm, one, Intervention("add", (1, 5), 0.0)))
    np.testing.assert_array_equal(same, plain)
    a, b = Intervention("add", (3,), 2.0), Intervention("add", (4,), 1.5, positions="last")
    forth, back = (run(lm, edited(lm, one, *both))[0] for both in ((a, b), (b, a)))
    np.testing.assert_allclose(forth, back, atol=1e-5)
    assert np.abs(forth - run(lm, edited(lm, one, a))[0]).max() > 1e-3


@each
def test_generation_equals_a_whole_pass(name, lm):
    one, push = made(name), Intervention("add", (3,))
    found = steer(lm, one, push, TOKENS, n_tokens=3, strength=2.0)
    for prompt, continued in zip(TOKENS, found.tokens_BN.tolist(), strict=True):
        row = list(prompt)
        for token in continued:
            given = language.prompts(lm, [row])
            edits = edits_of(lm, one, push, given, 2.0).prompt
            logits, _ = lm.forward(lm.params, given.tokens_BP, edits, whole(given))
            assert token == int(logits[0, len(row) - 1].argmax())
            row.append(token)


def test_what_would_need_the_codes_is_refused(lm):
    one = made("crosscoder")
    for chosen in (
        Intervention("set", (1,), 2.0),
        Intervention("add", direction=(1.0,) * 2 * D, value=1.0),
        Intervention("add", (1,), 2.0, error=False),
    ):
        with pytest.raises(ValueError, match=r"only 'add' on latents.*'op'"):
            edited(lm, one, chosen)
    with pytest.raises(ValueError, match=f"{F} latents"):
        edited(lm, one, Intervention("add", (F,), 1.0))
