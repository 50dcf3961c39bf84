"""Feature circuits: edges that leave other paths out and add up, and faithfulness of what is kept."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn.circuits import effects, faithfulness, features, split
from dictlearn.circuits.effects import ERROR, Effects, Node
from dictlearn.circuits.faithfulness import Kept
from dictlearn.circuits.neurons import neurons
from dictlearn.circuits.question import Question
from dictlearn.lm.taps import tapper
from dictlearn.normalise import Norm
from tests.circuits.test_effects import CLEAN, PATCH, D, F, last_logits, linear_lm, trained
from tests.lm.toy import toy_lm


def affine(tap: str, seed: int = 0):
    """A dictionary whose latents are all active, so that they are affine in the activation."""
    one = trained(tap, seed=seed)
    params = one.variables["params"]
    params = params | {"b_enc_F": params["b_enc_F"] + 100.0}
    return dataclasses.replace(one, variables={"params": params})


def every(tap: str) -> list[Node]:
    return [*(Node(tap, latent) for latent in range(F)), Node(tap, ERROR)]


def table(found, sources, targets):
    weights = {(one.source, one.target): one.weight for one in found}
    return np.array([[weights.get((s, t), 0.0) for s in sources] for t in targets])


def test_edges_into_a_node_add_up_to_its_effect_in_a_linear_network():
    lm, below, above = linear_lm(), affine("resid.0"), affine("resid.1", 1)
    question = Question(last_logits, CLEAN, PATCH)
    nodes = [*every("resid.0"), *every("resid.1")]
    found = features.edges(lm, [below, above], question, nodes)
    into = table(found, every("resid.0"), every("resid.1"))
    own = effects.total(effects.indirect(lm, [above], question, "attribution")["resid.1"])
    np.testing.assert_allclose(into.sum(1)[:-1], own.latents, rtol=1e-2, atol=2e-3)
    np.testing.assert_allclose(into.sum(1)[-1], own.error, rtol=1e-2, atol=2e-3)
    assert np.abs(own.latents).max() > 0.05
    assert not table(found, every("resid.1"), every("resid.0")).any(), "nothing acts backwards"


WEIGHTS = {"a": 2.0, "b": 3.0, "c": 5.0}


def chain_lm():
    """u is the token's number, d = a u, and the logit is b d + c u: a chain beside a direct path."""

    def forward(params, tokens, edits=None, mask_BT=None, freeze=()):
        tap = tapper(edits or {}, mask_BT, taps := {})
        u = tap("embed", params["table"][tokens])
        d = tap("resid.0", WEIGHTS["a"] * u)
        return WEIGHTS["b"] * d + WEIGHTS["c"] * u, taps

    table_VD = jnp.arange(40.0)[:, None] * jnp.ones(D) / 10
    return dataclasses.replace(toy_lm(), forward=forward, params={"table": table_VD})


def identity(tap: str):
    """Latent i is the positive part of dimension i."""
    one = trained(tap)
    eye_FD = jnp.eye(F, D)
    params = {"W_enc_FD": eye_FD, "W_dec_FD": eye_FD, "b_enc_F": jnp.zeros(F)}
    params |= {"b_dec_D": jnp.zeros(D)}
    return dataclasses.replace(one, variables={"params": params}, norm=Norm())


def test_an_edge_of_a_chain_leaves_the_path_beside_it_out():
    lm, pair = chain_lm(), [identity("embed"), identity("resid.0")]
    question = Question(
        lambda logits: logits[:, -1, 0], CLEAN[:1], PATCH[:1] + np.array([0, 0, 0, 4])
    )
    found = features.circuit(lm, pair, question, node_threshold=1e-6, edge_threshold=1e-6)
    moved = 0.4  # the last token's number is 4 larger
    u, d = Node("embed", 0), Node("resid.0", 0)
    assert found.nodes[u] == pytest.approx((2 * 3 + 5) * moved, rel=1e-4)
    assert found.nodes[d] == pytest.approx(3 * 2 * moved, rel=1e-4)
    assert [(one.source, one.target) for one in found.edges] == [(u, d)]
    assert found.edges[0].weight == pytest.approx(2 * 3 * moved, rel=1e-4)


def test_an_edge_is_a_finite_difference_with_the_sites_between_held():
    """From resid.0 to resid.2 of a llama past the sites of the layer between, which are given back."""
    lm = toy_lm()
    taps = ["resid.0", "attn_out.1", "mlp_out.1", "attn_out.2", "mlp_out.2", "resid.2"]
    own = [
        trained(tap, kind="topk" if tap == "resid.2" else "relu", seed=n)
        for n, tap in enumerate(taps)
    ]
    question, by_tap, mask = Question(last_logits, CLEAN[:1]), split.by_tap(own), CLEAN[:1] > 0
    run = lambda edits: lm.forward(lm.params, CLEAN[:1], edits=edits, mask_BT=mask)
    states = jax.jit(lambda: split.states(run, by_tap, mask))()
    zero = jax.tree.map(jnp.zeros_like, states)
    total = lambda added: split.measured(run, by_tap, last_logits)(added).sum()
    slope, plain = jax.jit(jax.grad(total))(zero), jax.jit(lambda: run({})[1])()
    held = {tap: lambda x, *_, tap=tap: plain[tap] for tap in taps[1:-1]}

    def value(step):
        added = jax.tree.map(lambda leaf: step * leaf, states["resid.0"])
        edits = held | {"resid.0": split.site(by_tap["resid.0"], added)}
        moved = split.at(by_tap["resid.2"], run(edits)[1])
        return (slope["resid.2"].codes * moved.codes).sum(), (
            slope["resid.2"].error * moved.error
        ).sum()

    step = 1e-3
    run_at = jax.jit(value)
    both = [(a - b) / (2 * step) for a, b in zip(run_at(step), run_at(-step), strict=True)]
    nodes = [*every("resid.0"), *every("resid.2")]
    found = table(features.edges(lm, own, question, nodes), every("resid.0"), every("resid.2"))
    # Patched with zeros, everything at resid.0 moves by minus its value.
    assert -found[:-1].sum() == pytest.approx(float(both[0]), rel=2e-2, abs=2e-3)
    assert -found[-1].sum() == pytest.approx(float(both[1]), rel=2e-2, abs=2e-3)
    assert abs(float(both[0])) > 0.01


def test_a_circuit_of_everything_is_the_model_and_one_of_nothing_is_not():
    lm, own = toy_lm(), [trained("resid.0"), trained("mlp_in.1", "mlp_out.1", skip=True)]
    question = Question(last_logits, CLEAN)
    everything = {
        tap: Kept(np.ones(F, bool), np.ones((), bool)) for tap in ("resid.0", "mlp_out.1")
    }
    nothing = jax.tree.map(np.logical_not, everything)
    plain = last_logits(lm.forward(lm.params, CLEAN)[0])
    measured = lambda kept: faithfulness.measure(lm, own, question, kept)
    np.testing.assert_allclose(measured(everything), plain, atol=1e-5)
    np.testing.assert_allclose(measured({}), plain, atol=1e-5)
    assert np.abs(measured(nothing) - plain).max() > 1e-3
    with pytest.raises(ValueError, match=r"'resid.2'.*resid.0"):
        measured({"resid.2": everything["resid.0"]})


def test_circuits_of_neurons_have_no_error_and_each_sequence_may_have_its_own():
    lm, own = toy_lm(), [neurons("resid.0", D), neurons("mlp_out.1", D)]
    question = Question(last_logits, CLEAN, PATCH)
    found = effects.indirect(lm, own, question, "attribution")
    assert all(not np.asarray(one.error).any() for one in found.values())
    whole = effects.total(found["resid.0"])
    table = effects.indirect(lm, [trained("resid.0")], question, "attribution")["resid.0"]
    both = effects.total(table)
    np.testing.assert_allclose(whole.latents.sum(), both.latents.sum() + both.error, rtol=1e-4)
    run = faithfulness.measurer(lm, own, question)
    kept = {"resid.0": Kept(np.arange(D) < 4, np.zeros((), bool))}
    rest = faithfulness.complement(kept)
    each = jax.tree.map(lambda a, b: np.stack([a, b])[:, None], kept, rest)
    np.testing.assert_allclose(run(each), [run(kept)[0], run(rest)[1]], rtol=1e-5)


def test_faithfulness_and_completeness_of_numbers_worked_out_by_hand():
    assert faithfulness.share(2.2, -1, 3) == pytest.approx(0.8)
    assert faithfulness.share(0, -1, 3) == pytest.approx(0.25)
    assert np.isnan(faithfulness.share(1, 2, 2))


def test_a_curve_goes_from_everything_to_nothing():
    lm, own = toy_lm(), [trained("resid.0"), trained("resid.1")]
    question = Question(last_logits, CLEAN, PATCH)
    found = effects.indirect(lm, own, question, "attribution")
    summed = {tap: effects.total(one) for tap, one in found.items()}
    ablated = faithfulness.means(lm, own, PATCH, PATCH > 0)
    assert ablated["resid.0"].codes.shape == (4, F)
    points = faithfulness.curve(lm, own, question, summed, ablated, (-1.0, 1e-2, 1e9))
    assert [one.nodes for one in points] == sorted((one.nodes for one in points), reverse=True)
    assert points[0].faithfulness == pytest.approx(1, abs=1e-3)
    assert points[-1].faithfulness == pytest.approx(0, abs=1e-3)
    assert points[-1].completeness == pytest.approx(1, abs=1e-3)
    kept = faithfulness.above(
        {"a": Effects(np.array([0.5, -2.0]), np.array(3.0))}, 1.0, errors=False
    )
    assert kept["a"].latents.tolist() == [False, True]
    assert not kept["a"].error
