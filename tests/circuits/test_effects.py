"""Indirect effects of latents and errors: estimates against exact patching; one backward pass for all sites."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn import dictionaries
from dictlearn.circuits import effects, split
from dictlearn.circuits.effects import ERROR, Node
from dictlearn.circuits.question import Question
from dictlearn.lm.taps import tapper
from dictlearn.normalise import Norm
from dictlearn.runs.trained import Site, Trained
from tests.lm.toy import toy_lm

D, F = 12, 20
CLEAN = np.array([[0, 5, 6, 7], [0, 8, 9, 10]])
PATCH = np.array([[0, 5, 11, 7], [0, 12, 9, 13]])
TOGETHER = ("mlp_out.0", "resid.1", "attn_out.2")


def trained(tap: str, target: str = "", kind: str = "relu", seed: int = 0, **fields) -> Trained:
    """A random dictionary; of an attention output or an MLP alike, all are D wide."""
    own = {"d_out": D, **fields} if target else fields
    own |= {"k": 5} if kind == "topk" else {"sparsity": 0.1}
    module = dictionaries.make(kind, d_in=D, n_latents=F, **own)
    variables = module.init(jax.random.key(seed), jnp.zeros((1, D)), method="encode")
    noise = lambda leaf: leaf + 0.3 * jax.random.normal(jax.random.key(leaf.size), leaf.shape)
    variables = {"params": jax.tree.map(noise, variables["params"])}
    norm = Norm("unit_mean_sq", 0.5, 0.25 if target else 0.5)
    site = Site({}, (tap,), (target or tap,), {})
    return Trained(module, variables, norm, (site,), name=target or tap)


def last_logits(logits):
    return logits[:, -1, 3] - logits[:, -1, 4]


def linear_lm():
    """Three residual layers without any nonlinearity: a mean over earlier tokens, and a matrix."""
    with jax.enable_x64(False):  # the toy is made once for all tests
        lm = toy_lm()

    def forward(params, tokens, edits=None, mask_BT=None, freeze=()):
        mask, taps = jnp.ones(tokens.shape, bool) if mask_BT is None else mask_BT, {}
        tap = tapper(edits or {}, mask, taps)
        x = tap("embed", params["embed_VD"][tokens])
        mean = jnp.tril(jnp.ones((4, 4))) / jnp.arange(1, 5)[:, None]
        for layer in range(3):
            mixed = jnp.einsum("ts,bsd->btd", mean, x) @ params[f"block_{layer}"]["W_o_HD"][:D]
            x = tap(f"resid.{layer}", x + 3 * mixed)
        return x @ params["embed_VD"].T, taps

    return dataclasses.replace(lm, forward=forward)


def test_the_three_estimates_of_a_square_are_as_worked_out_by_hand():
    square, one = lambda added: (1 + added) ** 2, jnp.array(1.0)
    assert float(effects.exact(square, one)) == 3
    assert float(effects.attribution(square, one)) == 2
    assert float(effects.integrated(square, one, 10, left=True)) == pytest.approx(2.9)
    assert float(effects.integrated(square, one, 10)) == pytest.approx(3.0)
    line = lambda added: 4 * (1 + added)
    for found in (
        effects.exact(line, one),
        effects.attribution(line, one),
        effects.integrated(line, one, 3, left=True),
    ):
        assert float(found) == pytest.approx(4)
    with pytest.raises(ValueError, match="steps=0"):
        effects.integrated(line, one, 0)


@pytest.mark.parametrize("layer", range(3))
def test_the_nodes_of_a_complete_cut_of_a_linear_model_add_up_to_the_whole_effect(layer):
    with jax.enable_x64(True):
        lm = linear_lm()
        lm = dataclasses.replace(lm, params=jax.tree.map(lambda a: a.astype("f8"), lm.params))
        one = trained(f"resid.{layer}")
        one = dataclasses.replace(
            one, variables=jax.tree.map(lambda a: a.astype("f8"), one.variables)
        )
        question = Question(last_logits, CLEAN, PATCH)
        found = effects.indirect(lm, [one], question, "attribution")[f"resid.{layer}"]
        m = lambda tokens: last_logits(lm.forward(lm.params, tokens)[0])
        whole = found.latents.sum((1, 2)) + found.error.sum(1)
        np.testing.assert_allclose(whole, m(PATCH) - m(CLEAN), rtol=1e-9)
        assert np.abs(found.error).max() > 1e-3
        assert np.abs(found.latents).max() > 1e-3


def test_in_a_linear_model_the_estimates_are_exact_patching():
    lm, pair = linear_lm(), [trained("resid.0"), trained("resid.1", kind="topk")]
    question = Question(last_logits, CLEAN, PATCH)
    one, ig = (effects.indirect(lm, pair, question, method) for method in effects.METHODS)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), one, ig)
    s, t, latent = map(int, np.argwhere(np.abs(one["resid.1"].latents) > 1e-3)[0])
    nodes = [Node("resid.1", latent, t), Node("resid.0", ERROR, 2), Node("resid.1", ERROR)]
    found = effects.patched(lm, pair, question, nodes)
    assert found.shape == (3, 2)
    close = {"rtol": 1e-4, "atol": 1e-4}
    np.testing.assert_allclose(found[0, s], one["resid.1"].latents[s, t, latent], **close)
    np.testing.assert_allclose(found[1], one["resid.0"].error[:, 2], **close)
    np.testing.assert_allclose(found[2], one["resid.1"].error.sum(1), **close)


def test_one_backward_pass_gives_the_gradients_of_each_site_alone():
    lm, several = toy_lm(), [trained(tap, seed=n) for n, tap in enumerate(TOGETHER)]
    question = Question(last_logits, CLEAN)
    both = effects.indirect(lm, several, question, "attribution")
    assert list(both) == list(TOGETHER)
    for one in several:
        (tap,) = one.sites[0].target
        alone = effects.indirect(lm, [one], question, "attribution")[tap]
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), both[tap], alone)
        assert np.abs(alone.latents).max() > 1e-3
        assert not alone.latents[:, 0].any(), "the first token is no data"


def test_a_split_that_adds_nothing_changes_nothing():
    lm, mask = toy_lm(), CLEAN > 0
    several = split.by_tap([trained(tap) for tap in TOGETHER])
    run = lambda edits: lm.forward(lm.params, CLEAN, edits=edits, mask_BT=mask)
    states = split.states(run, several, mask)
    zero = jax.tree.map(jnp.zeros_like, states)
    found = split.measured(run, several, lambda logits: logits)(zero)
    np.testing.assert_allclose(found, run({})[0], atol=1e-5)
    moved = split.measured(run, several, lambda logits: logits)(states)
    assert np.abs(moved - found).max() > 0.01


def test_integrated_gradients_of_a_transcoders_site_add_up_where_one_gradient_does_not():
    lm, one = toy_lm(), trained("mlp_in.0", "mlp_out.0", skip=True)
    loud = jax.tree.map(lambda leaf: 3 * leaf, lm.params["block_0"])
    lm = dataclasses.replace(lm, params={**lm.params, "block_0": loud})
    question = Question(last_logits, CLEAN, PATCH)
    by_tap, mask = split.by_tap([one]), CLEAN > 0
    run = lambda tokens: lambda edits: lm.forward(lm.params, tokens, edits=edits, mask_BT=mask)
    states = [split.states(run(tokens), by_tap, mask) for tokens in (CLEAN, PATCH)]
    change = jax.tree.map(jnp.subtract, *reversed(states))
    whole = effects.exact(split.measured(run(CLEAN), by_tap, last_logits), change)
    add_up = lambda found: found["mlp_out.0"].latents.sum((1, 2)) + found["mlp_out.0"].error.sum(1)
    ig = add_up(effects.indirect(lm, [one], question, steps=64))
    once = add_up(effects.indirect(lm, [one], question, "attribution"))
    assert np.abs(once - whole).max() > 1e-3
    assert np.abs(ig - whole).max() < 0.05 * np.abs(once - whole).max() + 1e-4


def test_effects_are_summed_over_tokens_and_averaged_over_sequences():
    own = effects.Effects(jnp.arange(12.0).reshape(2, 2, 3), jnp.arange(4.0).reshape(2, 2))
    whole, apart = effects.total(own), effects.total(own, by_position=True)
    assert whole.latents.tolist() == [9, 11, 13]
    assert float(whole.error) == 3
    assert apart.latents.tolist() == [[3, 4, 5], [6, 7, 8]]
    assert apart.error.tolist() == [1, 2]


def test_what_cannot_be_asked_is_refused():
    lm, one = toy_lm(), trained("resid.0")
    question = Question(last_logits, CLEAN)
    with pytest.raises(ValueError, match=r"'exact'.*attribution"):
        effects.indirect(lm, [one], question, "exact")
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(2, 4\)"):
        effects.indirect(lm, [one], question._replace(patch_ST=PATCH[:, :3]))
    with pytest.raises(ValueError, match=r"'resid.1'.*resid.0"):
        effects.patched(lm, [one], question, [Node("resid.1", 0)])
    with pytest.raises(ValueError, match=r"'resid.0'"):
        effects.indirect(lm, [one, one], question)
