"""Contributions add up, pullbacks are their weights, and greedy paths are the largest of all paths."""

import functools

import jax
import numpy as np
import pytest

from dictlearn.circuits import paths, pullback
from dictlearn.circuits.attribute import attribute
from dictlearn.circuits.contributions import FOLLOWED, KINDS, Contribution, Linear
from dictlearn.circuits.local import local
from dictlearn.circuits.logits import targets
from dictlearn.lm.spec import Spec
from tests.circuits.test_attribute import CASES, GEMMA, GPT, LLAMA, NEOX, TOKENS, D, case

THREE = Spec(3, D, 2, 1, 6, 20, 40)


@functools.cache
def linear(spec, kind, tokens=tuple(TOKENS), layers=(0, 1), **changes):
    """(model, transcoders, the linear model of a prompt with all its tokens), float64."""
    lm, own = case(spec, kind, wide=True, layers=layers, **changes)
    return lm, own, Linear(local(lm, own, np.array(tokens), 0))


def total(found, kinds=KINDS):
    return sum(one.value for one in found if one.kind in kinds)


def last_latents(model, n=3):
    """Readers of latents of the last layer, at the last token first, with their activations."""
    found = model.found
    top = found.latents_N3[:, 0].max()
    rows = [i for i in np.lexsort(found.latents_N3.T[::-1])[::-1] if found.latents_N3[i, 0] == top]
    chosen = [map(int, found.latents_N3[i]) for i in rows[:n]]
    return [(model.latent(*one), found.values_N[i]) for one, i in zip(chosen, rows, strict=False)]


@pytest.mark.parametrize(("spec", "kind"), CASES)
def test_contributions_add_up_to_a_latent_to_a_logit_and_to_each_other(spec, kind):
    with jax.enable_x64(True):
        lm, _, model = linear(spec, kind)
        for reader, value in last_latents(model):
            found = model.contributions(reader)
            assert total(found) == pytest.approx(value, rel=1e-9, abs=1e-9)
            followed = [one for one in found if one.kind in FOLLOWED]
            largest = sorted(followed, key=lambda one: -abs(one.value))[:6]
            for one in [*largest, *(one for one in followed if one.kind == "skip")]:
                below = model.contributions(model.follow(reader, one))
                assert total(below) == pytest.approx(one.value, rel=1e-8, abs=1e-9)
            kinds = {one.kind for one in found}
            assert {"latent", "head", "token"} <= kinds
            assert ("position" in kinds) == bool(spec.positions)
        _, rows_KD = targets(lm, model.found.logits_V, [7, 8])
        at = len(TOKENS) - 1
        final_D = np.asarray(lm.forward(lm.params, np.array([TOKENS]))[1]["final"][0, at])
        logit = model.contributions(model.logit(rows_KD[0], at))
        assert total(logit) == pytest.approx(final_D @ rows_KD[0], rel=1e-9, abs=1e-9)


def test_without_biases_nothing_is_left_to_a_bias_but_the_encoders():
    with jax.enable_x64(True):
        _, own, model = linear(LLAMA, "skip", b_dec=False)
        for (layer, _, latent), (reader, _) in zip(
            model.found.latents_N3[::-1].tolist(), last_latents(model), strict=False
        ):
            bias = own[layer].variables["params"]["b_enc_F"][latent]
            found = model.contributions(reader)
            assert total(found, ("bias",)) == pytest.approx(float(bias), abs=1e-9)


@pytest.mark.parametrize(("spec", "kind"), CASES)
def test_paths_through_heads_and_skips_alone_add_up_to_the_edges_of_the_graph(spec, kind):
    with jax.enable_x64(True):
        lm, own, model = linear(spec, kind)
        graph = attribute(lm, own, TOKENS, batch_size=16, n_ignored=0)
        target = len(graph.values_N) - 1
        place = {tuple(one): i for i, one in enumerate(graph.latents_N3.tolist())}
        reader = model.latent(*graph.latents_N3[target].tolist())
        kinds = ("latent", "head", "skip")
        found = paths.search(
            model, reader, 3, None, n_ignored=0, keep=lambda one: one.kind in kinds
        )
        added_N = np.zeros(len(graph.values_N))
        for path in found:
            latents = [one for one in path if one.kind == "latent"]
            if latents == [path[-1]]:
                end = path[-1]
                added_N[place[end.layer, end.position, end.index]] += end.value
        wanted_N = graph.edges_MM[target, : len(graph.values_N)]
        np.testing.assert_allclose(added_N, wanted_N, rtol=1e-8, atol=1e-10)
        assert (wanted_N != 0).sum() > 5


def test_a_contribution_is_the_activation_times_the_pullback():
    with jax.enable_x64(True):
        for spec, kind in ((LLAMA, "skip"), (NEOX, "relu"), (GEMMA, "jumprelu")):
            lm, own, model = linear(spec, kind)
            (reader, _), at = last_latents(model, 1)[0], len(TOKENS) - 1
            latent = model.found.latents_N3[-1, 2]
            row_1D = pullback.read_rows(lm, own[1], [latent])
            size = model._size("mlp_norm", 1, at) if kind != "relu" else 1.0
            weight_F = pullback.pullback(own[0], row_1D)[0] / size
            found = [one for one in model.contributions(reader) if one.kind == "latent"]
            values = {
                tuple(n): v
                for n, v in zip(model.found.latents_N3.tolist(), model.found.values_N, strict=True)
            }
            assert found
            for one in found:
                activation = values[one.layer, one.position, one.index]
                assert one.value == pytest.approx(activation * weight_F[one.index], rel=1e-5)


def test_heads_read_by_weights_alone_what_they_read_on_a_prompt_without_its_constants():
    with jax.enable_x64(True):
        for spec, kind in ((LLAMA, "skip"), (NEOX, "relu"), (GPT, "clt")):
            lm, _, model = linear(spec, kind)
            reader, _ = last_latents(model, 1)[0]
            head = next(one for one in model.contributions(reader) if one.kind == "head")
            share = model._pattern(head.layer)[head.index, reader.position, head.position]
            size = model._size("attn_norm", head.layer, head.position)
            row_hD = pullback.through_heads(lm, head.layer, reader.row_D[None])[0]
            wanted_D = model.follow(reader, head).row_D
            np.testing.assert_allclose(row_hD[head.index] * share / size, wanted_D, rtol=1e-9)


def test_the_de_embedding_is_the_tokens_with_the_largest_products():
    lm, own = case(LLAMA, "skip", False)
    found = pullback.de_embedding(lm, own[0], [3, 5], 4)
    embed_VD = np.asarray(lm.params["embed_VD"])
    normed_VD = embed_VD / np.sqrt((embed_VD**2).mean(1, keepdims=True) + lm.spec.norm_eps)
    rows_FD = 0.5 * np.asarray(own[0].variables["params"]["W_enc_FD"])
    gained_VD = normed_VD * np.asarray(lm.params["block_0"]["mlp_norm_D"])
    for latent, pairs in zip((3, 5), found, strict=True):
        wanted_V = np.sort(gained_VD @ rows_FD[latent])[::-1]
        np.testing.assert_allclose([value for _, value in pairs], wanted_V[:4], rtol=1e-4)
    with pytest.raises(ValueError, match=r"\(0, 1\).*one layer"):
        pullback.read_rows(lm, case(LLAMA, "clt", False)[1][0], [0])


def every_path(model, reader, depth, prefix=()):
    """All paths of a few steps, by recursion."""
    found = []
    for one in model.contributions(reader):
        if one.kind in paths.STEPS:
            found.append((*prefix, one))
            if depth > 1 and one.kind in FOLLOWED:
                found += every_path(model, model.follow(reader, one), depth - 1, found[-1])
    return found


def test_a_search_of_any_width_finds_all_paths_and_a_narrow_one_the_largest_of_each_level():
    with jax.enable_x64(True):
        _, _, model = linear(THREE, "skip", tokens=(3, 14), layers=(0, 1, 2))
        reader, value = last_latents(model, 1)[0]
        whole = paths.search(model, reader, 3, None, n_ignored=0)
        brute = every_path(model, reader, 3)
        key = lambda path: [one[:4] for one in path]
        assert sorted(map(key, whole)) == sorted(map(key, brute))
        assert len(brute) > 500
        narrow = paths.search(model, reader, 3, 4, n_ignored=0)
        ends = lambda found, n: [path for path in found if len(path) == n]
        before = [()]
        for level in (1, 2, 3):
            own = ends(narrow, level)
            room = [path for path in ends(brute, level) if path[:-1] in before]
            largest = sorted((path[-1].value for path in room), reverse=True)[:4]
            np.testing.assert_allclose([path[-1].value for path in own], largest)
            before = own
        best = max(ends(brute, 1), key=lambda path: path[-1].value)
        assert narrow[0] == best
        strongest = paths.search(model, reader, 1, 1, n_ignored=0, absolute=True)
        assert abs(strongest[0][-1].value) == max(abs(p[-1].value) for p in ends(brute, 1))
        assert value > 0


def test_a_cap_keeps_parts_of_a_latent_below_the_latent_and_filters_leave_steps_out():
    with jax.enable_x64(True):
        _, _, model = linear(GPT, "clt")
        raw, capped = {}, {}
        for at, (reader, _) in enumerate(last_latents(model, 8)):
            for into, cap in ((raw, False), (capped, True)):
                found = paths.search(model, reader, 2, None, cap=cap)
                pairs = [path for path in found if len(path) == 2 and path[0].kind == "latent"]
                into |= {(at, a[:4], b[:4]): (a, b) for a, b in pairs}
        assert raw.keys() == capped.keys()
        bound = lambda own, of: min(own, of) if of > 0 else max(own, of)
        for key, (one, two) in raw.items():
            assert capped[key] == (one, two._replace(value=bound(two.value, one.value)))
        assert sum(raw[key] != capped[key] for key in raw) > 3
        kept = paths.search(model, reader, 2, None, keep=lambda one: one.kind != "head")
        assert {one.kind for path in kept for one in path} == {"latent", "token", "position"}
        assert all(one.position > 0 for path in kept for one in path)


def test_paths_merge_into_a_graph_whose_rest_is_what_was_left_out():
    a, b = Contribution("latent", 1, 5, 2, 3.0), Contribution("head", 0, 1, 2, 2.0)
    c, d = Contribution("token", -1, -1, 1, 0.5), Contribution("latent", 0, 7, 1, 1.0)
    found = [(a,), (b,), (a, d), (a, c), (b, d._replace(value=0.25))]
    graph = paths.merged(found)
    edges = {(None if to is None else to[0], by[:3]): w for (by, to), w in graph.edges.items()}
    assert edges == {
        **{(None, a[:3]): 3.0, (None, b[:3]): 2.0, ("latent", d[:3]): 1.0},
        **{("latent", c[:3]): 0.5, ("head", d[:3]): 0.25},
    }
    assert graph.rest == {a[:4]: 1.5, b[:4]: 1.75, d[:4]: 1.25, c[:4]: 0.5}
    moved = (a._replace(position=3),)
    summed = paths.merged([*found, moved], by_token=False)
    assert summed.edges[(*a[:3], None), None] == 6.0
    assert len(paths.merged([*found, moved]).edges) == 6
    words = ["<s>", " the", "cat"]
    assert paths.told([(a, c)], words) == ["+0.50  token ' the' > latent 1.5 'cat'"]


def test_what_has_no_parts_is_refused():
    with jax.enable_x64(True):
        _, _, model = linear(LLAMA, "skip")
        reader, _ = last_latents(model, 1)[0]
        leaf = next(one for one in model.contributions(reader) if one.kind == "token")
        with pytest.raises(ValueError, match="'token'"):
            model.follow(reader, leaf)
        with pytest.raises(ValueError, match="Latent 99 of layer 1"):
            model.latent(1, 4, 99)
        for options in ({"depth": 0}, {"width": 0}):
            with pytest.raises(ValueError, match="at least 1"):
                paths.search(model, reader, **options)
