"""Attribution graphs: rows that add up, and edges that predict what interventions do."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn import dictionaries
from dictlearn.circuits.attribute import attribute
from dictlearn.circuits.influence import influence, normalised
from dictlearn.circuits.intervene import Change, Scaling, continuing, intervene
from dictlearn.circuits.local import local
from dictlearn.circuits.logits import Direction, likeliest
from dictlearn.lm import decoder, generate
from dictlearn.lm.spec import Spec
from dictlearn.normalise import Norm
from dictlearn.runs.trained import Site, Trained
from tests.lm.toy import toy_lm

D, F = 12, 16
TOKENS = [3, 14, 15, 9, 26]
LLAMA = Spec(2, D, 4, 2, 6, 20, 40)
GEMMA = Spec(2, D, 4, 2, 6, 20, 40, post_norms=True, qk_norm=True, embed_scale=3.0, logit_cap=9.0)
NEOX = Spec(
    2, D, 2, 2, 6, 20, 40, norm="layer", gated=False, parallel=True, bias_qkv=True, tied=False
)
GPT = Spec(2, D, 2, 2, 6, 20, 40, norm="layer", gated=False, positions=8, bias_mlp=True)
KINDS = {
    "skip": ({"name": "topk", "k": 4, "skip": True}, "mlp_in"),
    "jumprelu": ({"name": "jumprelu", "sparsity": 0.1, "threshold_start": 0.1}, "mlp_in"),
    "relu": ({"name": "relu", "sparsity": 0.1}, "resid_mid"),
    "clt": ({"name": "clt", "sources": 2, "sparsity": 0.1}, "mlp_in"),
}
CASES = [(LLAMA, "skip"), (GEMMA, "jumprelu"), (NEOX, "relu"), (GPT, "clt")]


def loud(lm):
    """The model with random biases, and attention and MLPs that matter."""
    keys = iter(jax.random.split(jax.random.key(5), 200))

    def leaf(path, one):
        name = path[-1].key
        if one.ndim == 1:
            return one + 0.3 * jax.random.normal(next(keys), one.shape)
        return 2 * one if name.startswith("W_") else one

    return dataclasses.replace(lm, params=jax.tree_util.tree_map_with_path(leaf, lm.params))


def transcoders(kind: str, read: str, fields: dict, layers=(0, 1), b_dec=True) -> list[Trained]:
    """Random ones of each layer, or one for both; each scales what it reads and writes."""
    n = fields.get("sources", 1)
    sets = [layers] if n > 1 else [(layer,) for layer in layers]
    found = []
    for seed, own in enumerate(sets):
        module = dictionaries.make(d_in=n * D, d_out=n * D, n_latents=n * F, **fields)
        variables = module.init(jax.random.key(seed), jnp.zeros((1, n * D)), method="encode")
        noise = lambda leaf: leaf + 0.3 * jax.random.normal(jax.random.key(leaf.size), leaf.shape)
        params = jax.tree.map(noise, variables["params"])
        if not b_dec:
            params["b_dec_D"] = 0 * params["b_dec_D"]
        if n > 1 and "W_skip_DD" in params:
            params["W_skip_DD"] = 0 * params["W_skip_DD"]
        params |= {k: jnp.full_like(v, -2.0) for k, v in params.items() if "threshold" in k}
        norm = Norm("unit_mean_sq", (0.5, 0.7) if n > 1 else 0.5, (0.3, 0.4) if n > 1 else 0.3)
        taps = [tuple(f"{place}.{layer}" for layer in own) for place in (read, "mlp_out")]
        site = Site({"name": "toy"}, taps[0], taps[1], {})
        found.append(
            Trained(module, variables | {"params": params}, norm, (site,), f"{kind}{seed}")
        )
    return found


def doubled(tree):
    wide = lambda leaf: leaf.astype("f8") if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf
    return jax.tree.map(wide, tree)


def case(spec, kind, wide, **changes):
    """(model, transcoders), in float64 where `wide`."""
    # The toys are made once for all tests, in float32.
    with jax.enable_x64(False):
        lm, (fields, read) = loud(toy_lm(0, spec)), KINDS[kind]
        own = transcoders(kind, read, fields, **changes)
    if wide:
        lm = dataclasses.replace(lm, params=doubled(lm.params))
        own = [dataclasses.replace(one, variables=doubled(one.variables)) for one in own]
    return lm, own


@pytest.mark.parametrize(("spec", "kind"), [(LLAMA, "skip"), (LLAMA, "clt")])
def test_a_row_adds_up_to_its_targets_value_where_nothing_is_left_out(spec, kind):
    """No biases in the model or the decoders, and no token ignored: what is left is the encoder's bias."""
    with jax.enable_x64(True):
        lm, own = case(spec, kind, wide=True, b_dec=False)
        graph = attribute(lm, own, TOKENS, n_ignored=0, mass=1.0)
        found = local(lm, own, np.array(TOKENS), 0)
        sums_M, n = graph.edges_MM.sum(1), len(graph.values_N)
        read = found.reads_LTD[found.latents_N3[:, 0], found.latents_N3[:, 1]]
        np.testing.assert_allclose(sums_M[:n], (read * found.rows_ND).sum(1), atol=1e-9)
        logits_V = np.asarray(lm.forward(lm.params, np.array([TOKENS]))[0][0, -1])
        tokens = [one.token for one in graph.logits]
        np.testing.assert_allclose(
            sums_M[graph.targets], (logits_V - logits_V.mean())[tokens], atol=1e-9
        )
        assert len(graph.logits) == 10
        assert n > 20


def measured(found, changes, tokens):
    """The changes of every pre-activation and of the targets' demeaned logits before their cap, measured."""
    plain, changed = (intervene(found, given) for given in ([], changes))
    uncapped = lambda run: _uncapped(found.lm.spec.logit_cap, run.logits_TV[-1])
    moved_V = uncapped(changed) - uncapped(plain)
    return np.concatenate([changed.pre_N - plain.pre_N, (moved_V - moved_V.mean())[tokens]])


def _uncapped(cap, logits_V):
    return logits_V if cap is None else cap * np.arctanh(logits_V / cap)


@pytest.mark.parametrize(
    ("spec", "kind", "wide"), [(LLAMA, "skip", False), *((*one, True) for one in CASES)]
)
def test_edges_predict_what_interventions_change(spec, kind, wide):
    with jax.enable_x64(wide):
        lm, own = case(spec, kind, wide)
        graph = attribute(lm, own, TOKENS, batch_size=16)
        found = local(lm, own, np.array(TOKENS))
        tokens, n = [one.token for one in graph.logits], len(graph.values_N)
        targets = [*range(n), *range(graph.targets.start, len(graph))]
        chosen = np.random.default_rng(0).choice(n, 8, replace=False)
        changes = [(i, _set(graph, i, 2.0)) for i in chosen]
        errors, length = graph.errors.start, len(TOKENS)
        changes += [(errors + t, Scaling("error", 0, t, 2.0)) for t in (1, 3)]
        changes += [(errors + length + 2, Scaling("error", 1, 2, 2.0))]
        changes += [(graph.embeddings.start + t, Scaling("token", 0, t, 2.0)) for t in (0, 4)]
        close = {"rtol": 1e-8, "atol": 1e-10} if wide else {"rtol": 1e-3, "atol": 1e-4}
        for node, change in changes:
            seen = measured(found, [change], tokens)
            np.testing.assert_allclose(seen, graph.edges_MM[targets, node], **close)
        both = measured(found, [changes[0][1], changes[-1][1]], tokens)
        added = graph.edges_MM[targets][:, [changes[0][0], changes[-1][0]]].sum(1)
        np.testing.assert_allclose(both, added, **close)
        assert np.abs(graph.edges_MM).sum(1)[targets].min() > 0


def _set(graph, node: int, factor: float) -> Change:
    layer, position, latent = map(int, graph.latents_N3[node])
    return Change(layer, position, latent, factor * float(graph.values_N[node]))


def test_rows_are_those_of_one_backward_pass_through_the_whole_frozen_model():
    lm, own = case(GEMMA, "jumprelu", False)
    graph, found = attribute(lm, own, TOKENS, batch_size=4), local(lm, own, np.array(TOKENS))
    last = len(graph.values_N) - 1
    layer, position, _ = graph.latents_N3[last]

    def read(added):
        edits = {f"mlp_out.{at}": lambda x, *_, at=at: x + added[at] for at in range(2)}
        taps = decoder.forward(
            lm.spec, lm.params, np.array([TOKENS]), edits, freeze=("norms", "attention", "mlps")
        )[1]
        return taps[f"mlp_in.{layer}"][0, position] @ found.rows_ND[last]

    slope = np.asarray(jax.jit(jax.grad(read))(jnp.zeros((2, 1, len(TOKENS), D))))[:, 0]
    wanted = (slope * found.errors_LTD).sum(-1).ravel()
    np.testing.assert_allclose(graph.edges_MM[last, graph.errors], wanted, rtol=1e-3, atol=1e-5)
    assert np.abs(wanted).max() > 1e-3


def test_nothing_comes_after_what_it_explains():
    lm, own = case(NEOX, "relu", False)
    graph = attribute(lm, own, TOKENS)
    n, (layer_N, position_N) = len(graph.values_N), graph.latents_N3.T[:2]
    later = (layer_N[:, None] <= layer_N) | (position_N[:, None] < position_N)
    assert not graph.edges_MM[:n, :n][later].any()
    assert not graph.edges_MM[graph.errors.start : graph.targets.start].any()
    assert not graph.edges_MM[:, graph.errors.start :: len(TOKENS)][:, :2].any(), "first errors"
    assert (position_N > 0).all()


def test_the_most_influential_latents_are_chosen_and_their_rows_are_the_same():
    lm, own = case(LLAMA, "skip", False)
    whole, part = (attribute(lm, own, TOKENS, most=most, batch_size=4) for most in (99, 10))
    assert len(part.values_N) == 10
    assert part.n_active == len(whole.values_N) > 20
    place = [list(map(tuple, whole.latents_N3)).index(tuple(one)) for one in part.latents_N3]
    rest = np.arange(len(whole.values_N), len(whole))
    both = [*place, *rest]
    wanted = whole.edges_MM[np.ix_(both, both)]
    np.testing.assert_allclose(part.edges_MM, wanted, rtol=1e-4, atol=1e-4)
    direct_N = normalised(whole.edges_MM[whole.targets]).T @ whole.weights_M[whole.targets]
    first = np.argsort(-direct_N[: len(whole.values_N)])[:4]
    assert set(first) <= set(place), "the first choice is by the rows of the logits"
    total_M = influence(normalised(whole.edges_MM), whole.weights_M)[: len(whole.values_N)]
    assert total_M[place].mean() > total_M.mean()


def test_interventions_that_are_not_frozen_run_the_model():
    lm, own = case(LLAMA, "clt", False)
    found = local(lm, own, np.array(TOKENS))
    node = int(np.flatnonzero(found.latents_N3[:, 0] == 0)[-1])
    layer, position, latent = map(int, found.latents_N3[node])
    change = Change(layer, position, latent, 0.0)
    runs = {freeze: intervene(found, [change], freeze) for freeze in ("all", "attention", "none")}
    atoms = {at: atoms_ND[list(rows).index(node)] for at, (rows, atoms_ND) in found.atoms.items()}
    taken = {
        f"mlp_out.{at}": lambda x, *_, by=found.values_N[node] * own: x.at[0, position].add(-by)
        for at, own in atoms.items()
    }
    logits, _ = lm.forward(lm.params, np.array([TOKENS]), edits=taken)
    np.testing.assert_allclose(runs["none"].logits_TV, logits[0], atol=1e-4)
    plain = intervene(found, [], "none")
    np.testing.assert_allclose(plain.values_N, found.values_N, rtol=1e-4, atol=1e-4)
    for one, other in (("all", "none"), ("attention", "none"), ("all", "attention")):
        assert np.abs(runs[one].logits_TV - runs[other].logits_TV).max() > 1e-4
    every = intervene(found, [change._replace(position=None)], "none")
    assert np.abs(every.logits_TV - runs["none"].logits_TV).max() > 0


@pytest.mark.parametrize("kind", ["skip", "clt"])
def test_a_continuation_is_that_of_the_changed_runs_of_every_longer_prompt(kind):
    lm, own = case(LLAMA, kind, False)
    found = local(lm, own, np.array(TOKENS))
    node = int(np.flatnonzero(found.latents_N3[:, 0] == 0)[-1])
    layer, position, latent = map(int, found.latents_N3[node])
    changes = [Change(layer, None, latent, 3.0)]
    made = generate(lm, [TOKENS], n_tokens=3, edits=continuing(found, changes))
    tokens = list(TOKENS)
    for token in made.tokens_BN[0]:
        run = intervene(local(lm, own, np.array(tokens)), changes, "none")
        assert int(run.logits_TV[-1].argmax()) == token
        tokens.append(int(token))
    once = continuing(found, [Change(layer, position, latent, 5.0)])
    assert once.prompt
    assert not once.generated


def test_targets_are_likely_tokens_given_tokens_or_directions():
    assert likeliest(np.array([0.1, 0.6, 0.3]), 10, 0.85) == [1, 2]
    assert likeliest(np.array([0.1, 0.6, 0.3]), 1, 0.85) == [1]
    assert likeliest(np.array([0.1, 0.6, 0.3]), 10, 0.0) == [1]
    lm, own = case(LLAMA, "skip", False)
    unembed = np.asarray(lm.params["embed_VD"])
    ways = [7, 8, Direction("7 less 8", 0.5, unembed[7] - unembed[8])]
    graph = attribute(lm, own, TOKENS, chosen=ways)
    seven, eight, less = graph.edges_MM[graph.targets]
    np.testing.assert_allclose(seven - eight, less, rtol=1e-4, atol=1e-4)
    assert [one.token for one in graph.logits] == [7, 8, -1]
    assert graph.logits[2].weight == 0.5


def test_what_no_graph_can_be_made_of_is_refused():
    lm, own = case(LLAMA, "skip", False)
    sae = dataclasses.replace(own[0], sites=(Site({}, ("resid.0",), ("resid.0",), {}),))
    moved = dataclasses.replace(own[0], sites=(Site({}, ("mlp_in.0",), ("mlp_out.1",), {}),))
    fields = {"name": "gated", "sparsity": 0.1}
    gated = transcoders("gated", "mlp_in", fields, layers=(0,))
    for given, words in (
        ([], "No dictionaries"),
        ([sae], "'skip0' reads and writes.*mlp_in"),
        ([moved], r"\[0\].*\[1\]"),
        ([own[0], own[0]], "mlp_out.0"),
        (gated, "'gated0' are not"),
    ):
        with pytest.raises(ValueError, match=words):
            attribute(lm, given, TOKENS)
    for options, words in (
        ({"most": 0}, "most=0"),
        ({"chosen": []}, "No targets"),
        ({"chosen": [Direction("x", 1.0, np.zeros(3))]}, r"'x' has shape \(3,\)"),
        ({"n_ignored": 5}, "n_ignored=5"),
    ):
        with pytest.raises(ValueError, match=words):
            attribute(lm, own, TOKENS, **options)
    found = local(lm, own, np.array(TOKENS))
    for change, words in (
        (Change(0, 9, 0, 1.0), "0 to 4"),
        (Change(0, 1, 99, 1.0), "0 to 15"),
        (Change(7, 1, 0, 1.0), "layer 7"),
        (Scaling("error", 4, 0, 1.0), "2 layers"),
    ):
        with pytest.raises(ValueError, match=words):
            intervene(found, [change])
