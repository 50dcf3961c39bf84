"""Generation with kept keys and values equals a whole forward pass for every token, with edits too."""

import dataclasses
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from dictlearn import lm as language
from dictlearn.lm import edits, families, generate
from dictlearn.lm.bert import BertSpec
from dictlearn.lm.spec import Spec

from . import hf
from .toy import SPEC, toy_lm

programs = importlib.import_module("dictlearn.lm.generate")

CASES = {
    "grouped": SPEC,
    "untied": Spec(2, 16, 4, 4, 4, 8, 30, rope_base=100.0, tied=False),
    "positions": Spec(2, 12, 4, 4, 3, 20, 40, norm="layer", gated=False, positions=14),
    "parallel": Spec(2, 12, 2, 1, 6, 20, 40, parallel=True, rope_width=4, bias_qkv=True),
    "window": Spec(2, 12, 4, 2, 6, 20, 40, window=2, sliding_layers=(0,), attn_cap=0.5),
}
N, N_TOKENS = 3, 5


def ragged(vocab):
    random = np.random.default_rng(1)
    return [random.integers(0, vocab, n).tolist() for n in (4, 1, 7)]


def recomputed(lm, tokens, put, mask, n_tokens=N_TOKENS):
    """Greedy tokens and their log-probabilities, by a whole forward pass for every token. mask: (position,
    length of the prompt) -> whether the edits act there."""
    run = jax.jit(lambda tokens_BT, mask_BT: lm.forward(lm.params, tokens_BT, put, mask_BT)[0])
    rows, width = [list(prompt) for prompt in tokens], len(max(tokens, key=len)) + n_tokens
    mask_BT = np.array([[mask(place, len(each)) for place in range(width)] for each in tokens])
    log_prob_BN = np.zeros((len(rows), n_tokens))
    for n in range(n_tokens):
        padded_BT = np.stack([np.pad(row, (0, width - len(row))) for row in rows])
        log_BTV = jax.nn.log_softmax(run(padded_BT, mask_BT))
        for b, row in enumerate(rows):
            log_prob_BN[b, n] = log_BTV[b, len(row) - 1].max()
            row.append(int(log_BTV[b, len(row) - 1].argmax()))
    return np.array([row[-n_tokens:] for row in rows]), log_prob_BN


def same(found, expected):
    np.testing.assert_allclose(found.log_prob_BN, expected[1], atol=1e-4)
    np.testing.assert_array_equal(found.tokens_BN, expected[0])


def after_the_first(place, length):
    return place > 0


@pytest.mark.parametrize("name", CASES)
def test_generation_equals_a_whole_pass_for_every_token(name):
    lm = toy_lm(spec=CASES[name])
    tokens = ragged(lm.spec.vocab)
    same(
        generate(lm, tokens, n_tokens=N_TOKENS), recomputed(lm, tokens, None, lambda place, n: True)
    )


@pytest.mark.parametrize("family", families.names())
def test_every_family_generates_what_it_computes(family):
    pytest.importorskip("transformers")
    spec = families.spec_from_config(hf.small_config(family).to_dict())
    if not isinstance(spec, Spec):
        pytest.skip("it is no decoder")
    lm, put = toy_lm(spec=spec), {"resid.0": edits.add(np.linspace(-2, 2, spec.d_model))}
    tokens = ragged(spec.vocab)
    found = generate(lm, tokens, n_tokens=N_TOKENS, edits=put)
    same(found, recomputed(lm, tokens, put, after_the_first))


EDITED = ("embed", "attn_in.1", "attn_z.0", "mlp_out.1", "resid.1", "final")


@pytest.mark.parametrize("phase", ["both", "prompt", "generated"])
def test_edits_of_a_phase_equal_a_whole_pass_with_the_same_mask(phase):
    lm, tokens = toy_lm(), ragged(SPEC.vocab)
    put = {tap: edits.add(np.sin(7 * n)) for n, tap in enumerate(EDITED, 1)}
    given = {
        "both": put,
        "prompt": language.Edits(prompt=put),
        "generated": language.Edits(generated=put),
    }[phase]
    mask = {
        "both": after_the_first,
        "prompt": lambda place, n: 0 < place < n,
        "generated": lambda place, n: place >= n,
    }[phase]
    found = generate(lm, tokens, n_tokens=N_TOKENS, edits=given)
    same(found, recomputed(lm, tokens, put, mask))
    plain = generate(lm, tokens, n_tokens=N_TOKENS)
    assert np.abs(found.log_prob_BN[:, 1:] - plain.log_prob_BN[:, 1:]).max() > 1e-3


def test_a_mask_says_which_tokens_of_the_prompt_are_edited():
    lm, tokens = toy_lm(), ragged(SPEC.vocab)
    put, given = {"resid.0": edits.add(2.0)}, language.prompts(lm, tokens)
    mask_BP = np.zeros(given.tokens_BP.shape, bool)
    mask_BP[:, 0] = True
    only = language.Edits(prompt=put)
    found = generate(lm, given, n_tokens=2, edits=only, mask_BP=mask_BP)
    same(found, recomputed(lm, tokens, put, lambda place, n: place == 0, 2))


def test_prompts_do_not_see_each_other_nor_their_padding():
    lm, tokens = toy_lm(), ragged(SPEC.vocab)
    whole = generate(lm, tokens, n_tokens=N_TOKENS)
    for row, prompt in enumerate(tokens):
        alone = generate(lm, [prompt], n_tokens=N_TOKENS)
        np.testing.assert_array_equal(alone.tokens_BN[0], whole.tokens_BN[row])


def test_two_programs_serve_every_length_and_every_strength():
    lm = toy_lm(spec=Spec(2, 8, 2, 1, 4, 8, 23))
    shift = lambda by, x, mask_BT, taps: jnp.where(mask_BT[..., None], x + by, x)
    sizes = lambda: (programs._read._cache_size(), programs._advance._cache_size())
    before, found = sizes(), []
    for n, strength in ((3, 0.5), (9, 2.0), (4, -1.0)):
        put = {"resid.0": Partial(shift, jnp.float32(strength))}
        found.append(generate(lm, [list(range(n)), [1, 2]], n_tokens=6, edits=put))
    assert [after - then for after, then in zip(sizes(), before, strict=True)] == [1, 1]
    assert np.abs(found[0].log_prob_BN - found[1].log_prob_BN).max() > 1e-3


def test_draws_have_the_probabilities_of_the_model():
    lm, n = toy_lm(spec=Spec(1, 8, 2, 1, 4, 8, 6)), 4000
    found = generate(lm, [[3, 1]] * n, n_tokens=1, temperature=0.5)
    logits_V = lm.forward(lm.params, np.array([[3, 1]]))[0][0, -1]
    share_V = np.bincount(found.tokens_BN[:, 0], minlength=6) / n
    np.testing.assert_allclose(share_V, jax.nn.softmax(logits_V / 0.5), atol=0.03)
    again = generate(lm, [[3, 1]] * n, n_tokens=1, temperature=0.5, seed=1)
    assert (again.tokens_BN != found.tokens_BN).any()


@pytest.mark.parametrize("given", [{"top_k": 2}, {"top_p": 0.5}, {"top_k": 3, "top_p": 0.6}])
def test_draws_stay_among_the_most_likely(given):
    lm = toy_lm(spec=Spec(1, 8, 2, 1, 4, 8, 12))
    found = generate(lm, [[3, 1]] * 500, n_tokens=1, temperature=2.0, **given)
    logits_V = lm.forward(lm.params, np.array([[3, 1]]))[0][0, -1] / 2.0
    order = np.argsort(-np.asarray(logits_V))[: given.get("top_k", 12)]
    prob = np.asarray(jax.nn.softmax(logits_V[order]))
    kept = order[np.cumsum(prob) - prob < given.get("top_p", 1.0)]
    assert set(found.tokens_BN[:, 0].tolist()) == set(kept.tolist())


def test_a_continuation_ends_with_its_first_stop_token():
    lm, tokens = toy_lm(), ragged(SPEC.vocab)
    plain = generate(lm, tokens, n_tokens=N_TOKENS)
    stop = int(plain.tokens_BN[0, 1])
    found = generate(lm, tokens, n_tokens=N_TOKENS, stop=[stop])
    for row, whole_N in zip(found.texts(), plain.tokens_BN.tolist(), strict=True):
        assert row == (whole_N[: whole_N.index(stop) + 1] if stop in whole_N else whole_N)
    alone = generate(lm, tokens[:1], n_tokens=N_TOKENS, stop=[stop])
    assert alone.texts() == found.texts()[:1]


def test_what_cannot_be_generated_is_refused():
    lm, limited = toy_lm(), toy_lm(spec=CASES["positions"])
    bert = dataclasses.replace(lm, spec=BertSpec(1, 4, 1, 8, 5, 8))
    for model, tokens, given, problem in (
        (lm, [], {}, "0 prompts"),
        (lm, [[1], []], {}, "at least one token"),
        (lm, [[1, 259]], {}, r"token 259\b.*\b259 rows"),
        (lm, [[1]], {"n_tokens": 0}, "n_tokens=0"),
        (lm, [[1]], {"temperature": -1.0}, r"temperature=-1\.0"),
        (lm, [[1]], {"top_k": 0}, "top_k=0"),
        (lm, [[1]], {"top_p": 1.5}, r"top_p=1\.5"),
        (lm, [[1]], {"edits": {"resid.3": edits.zero()}}, r"resid\.3"),
        (limited, [[1] * 15], {}, r"\b15 tokens.*\b14 positions"),
        (limited, [[1] * 12], {}, r"\b15 tokens.*\b14 positions"),
        (bert, [[1]], {}, "no decoder"),
    ):
        with pytest.raises(ValueError, match=problem):
            generate(model, tokens, **{"n_tokens": N, **given})
