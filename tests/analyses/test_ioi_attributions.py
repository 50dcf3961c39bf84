"""Planted latents that write the indirect object are found at their places, those of other names are not."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn import analyses, dictionaries, tasks
from dictlearn.analyses import Subject, _ioi_told
from dictlearn.analyses._ioi_places import PLACES, placed
from dictlearn.circuits.local import local
from dictlearn.circuits.logits import difference
from dictlearn.circuits.pooled import Prompt, pool
from dictlearn.lm import LM, decoder
from dictlearn.lm.spec import Spec, random_params
from dictlearn.normalise import Norm
from dictlearn.runs.trained import Site, Trained
from tests.analyses.test_ioi import words

SPLITS = 2
GAIN = 1e5
"""gelu(s z) / s is within 0.17 / s of ReLU(z)."""


@functools.cache
def drawn(split):
    return tasks.make("ioi_prompts", n_names=2, n_templates=1, pairs=True, seed=split)


@functools.cache
def planted() -> tuple[LM, dict[str, int]]:
    """A model whose first MLP writes, for each token, a direction of its own, which uniform attention then
    takes off the logit of that token: the subject is there twice and so loses more. Its second MLP writes what
    no logit reads."""
    tokenizer, vocab = words([text for split in range(SPLITS) for text in drawn(split).text])
    n = len(vocab) + len(vocab) % 2
    spec = Spec(2, 3 * n, 1, 1, head_dim=n, d_mlp=n, vocab=n, activation="gelu", gated=False)
    params = jax.tree.map(np.array, random_params(spec, jax.random.key(0)))
    part = lambda i: np.eye(3 * n)[i * n : (i + 1) * n].astype(
        "f"
    )  # [n, D]: tokens, written, unread
    for layer in range(2):
        block = params[f"block_{layer}"]
        block |= {name: np.zeros_like(block[name]) for name in ("W_q_DH", "W_k_DG", "W_o_HD")}
        block |= {"W_up_DM": GAIN * part(0).T, "W_down_MD": part(1 + layer) / GAIN}
    params["block_1"] |= {"W_v_DG": part(1).T, "W_o_HD": -part(0)}
    params["embed_VD"] = 20 * part(0)
    params = jax.tree.map(jnp.asarray, params)
    forward = functools.partial(decoder.forward, spec)
    return LM("planted", spec, params, tokenizer, 0, {}, forward), vocab


def transcoder(layer: int, without: tuple[int, ...] = ()) -> Trained:
    """The MLP of a layer. The latents of some tokens write nothing."""
    block = planted()[0].params[f"block_{layer}"]
    n, width = block["W_down_MD"].shape
    down_FD = np.array(block["W_down_MD"] * GAIN)
    down_FD[list(without)] = 0
    params = {"W_enc_FD": block["W_up_DM"].T / GAIN, "W_dec_FD": jnp.asarray(down_FD)}
    params |= {"b_enc_F": jnp.zeros(n), "b_dec_D": jnp.zeros(width)}
    module = dictionaries.make("relu", d_in=width, d_out=width, n_latents=n, sparsity=0.0)
    site = Site({}, (f"mlp_in.{layer}",), (f"mlp_out.{layer}",), {})
    return Trained(module, {"params": params}, Norm("unit_mean_sq", 1.0, 1.0), (site,), f"l{layer}")


def subjects(without: tuple[int, ...] = ()) -> list[Subject]:
    made = [Subject(f"l{i}", given=[transcoder(i, without)]) for i in range(2)]
    made[0].__dict__["lm"] = planted()[0]
    return made


def of(split):
    """{place: the latents of the names there}."""
    vocab, own = planted()[1], drawn(split).attributes
    token = lambda name: {vocab[one] for one in own[name]}
    return {"io": token("io"), "s1": token("s"), "s2": token("s")}


def truth():
    """(layer, place, latent) of what writes the difference."""
    every = [
        (place, latent) for n in range(SPLITS) for place, own in of(n).items() for latent in own
    ]
    return {(0, *one) for one in every}


@functools.cache
def found(without=()):
    settings = {"splits": SPLITS, "n_pairs": 2, "n_checked": 24}
    return analyses.run("ioi_attributions", subjects(without), **settings).values


def place(values, at, kind):
    (row,) = (row for row in values["places"] if (row["place"], row["kind"]) == (at, kind))
    return row


def test_names_of_a_pair_are_exchanged():
    task = tasks.make("ioi_prompts", n_names=3, n_templates=2, pairs=True)
    io_S, s_S = task.attributes["io"], task.attributes["s"]
    prompts = [*zip(io_S, s_S, task.label_S, task.attributes["template"], strict=True)]
    assert len({*prompts}) == len(prompts) == 24
    assert {(s, io, *rest) for io, s, *rest in prompts} == {*prompts}
    assert len({frozenset(pair[:2]) for pair in prompts}) == 3


def test_names_are_placed_where_they_are():
    lm, vocab = planted()
    for one, text in zip(placed(lm, drawn(0)), drawn(0).text, strict=True):
        said = {vocab[word] for word in text.replace(",", " ,").split()}
        assert {one.io, one.s} < said
        at = lambda name, one=one: np.array(one.tokens)[one.place_T == PLACES.index(name)].tolist()
        assert (at("io"), at("s1"), at("s2")) == ([one.io], [one.s], [one.s])
        assert at("end") == [vocab["to"]]
        first, again = (np.flatnonzero(one.place_T == PLACES.index(s)) for s in ("s1", "s2"))
        assert first < again


def test_planted_latents_are_found_at_their_places_and_no_other():
    values = found()
    rows = [row for row in values["latents"] if row["influence"] > 1e-6]
    assert {(row["layer"], row["place"], row["latent"]) for row in rows} == truth()
    assert all((row["direct"] < 0) == (row["place"] == "io") for row in rows)
    sizes = [abs(row["direct"]) for row in rows]
    assert max(sizes) == pytest.approx(min(sizes), rel=0.02)
    assert {row["active"] for row in rows} == {1 / 4 / SPLITS}
    whole, half = values["logit_difference"]
    assert whole > 0.4 > half
    direct = {at: place(values, at, "latents")["direct"] for at in ("io", "s1", "s2")}
    assert direct["s1"] == pytest.approx(direct["s2"])
    assert sum(direct.values()) == pytest.approx(whole, rel=1e-3)
    for at in direct:
        shares = [place(values, at, kind)["influence"] for kind in ("latents", "errors")]
        assert shares == [pytest.approx(1 / 6, rel=0.02), pytest.approx(0, abs=1e-3)]
    assert place(values, "all", "embeddings")["influence"] == pytest.approx(1 / 2, rel=0.01)
    assert values["replacement"][0] == pytest.approx(1, abs=1e-3)


def test_its_edges_predict_what_ablation_does_and_those_of_other_latents_do_not():
    values = found()
    both = values["checks"][-1]
    assert both["latents"] == "both"
    assert both["n"] > 36
    assert both["direct"] > 0.98
    assert both["total"] > 0.98
    rows = [row for row in values["latents"] if row["taken_out"] is not None]
    seen = np.array([[row["taken_out"] for row in rows]])
    own = np.array([[row["total"] for row in rows]])
    assert _ioi_told.correlations(own, seen)[0] > 0.98
    assert _ioi_told.correlations(np.roll(own, len(rows) // 2), seen)[0] < 0
    errors = [place(values, at, "errors")["taken_out"] for at in PLACES]
    assert errors == pytest.approx([0] * 5, abs=1e-3)
    for at in ("s1", "s2"):
        row = place(values, at, "latents")
        assert row["taken_out"] == pytest.approx(row["direct"], rel=0.1)


def test_latents_that_a_dictionary_lacks_are_told_as_errors_at_their_place():
    values = found(tuple(sorted({latent for _, _, latent in truth()})))
    for at in ("io", "s1", "s2"):
        assert place(values, at, "errors")["influence"] == pytest.approx(1 / 3, rel=0.01)
        row = place(values, at, "errors")
        assert row["taken_out"] == pytest.approx(row["direct"], rel=0.1)
    assert place(values, "all", "latents")["influence"] == pytest.approx(0, abs=1e-3)
    assert values["replacement"][0] < 0.01


def influences(change):
    """The influence of planted latents and of all latents, where the prompts are changed."""
    lm, vocab = planted()
    own, names = [transcoder(0), transcoder(1)], drawn(1).attributes["io"].tolist()
    others = [vocab[one] for one in sorted({*names} - {*drawn(0).attributes["io"].tolist()})]
    given = [change(one, others, n) for n, one in enumerate(placed(lm, drawn(0)))]
    model = lambda one: local(lm, own, np.array(one.tokens))
    made = [Prompt(model(one), one.place_T, difference(lm, one.io, one.s)) for one in given]
    pooled = pool(made, PLACES, 100)
    latents = [(layer, PLACES[at], latent) for layer, at, latent in pooled.latents_N3.tolist()]
    share_N = pooled.influence_GC[0][: len(latents)]
    size_N = np.abs(pooled.edges_GRC[0, 0, : len(latents)])
    planted_N = np.array([one in truth() for one in latents])
    return share_N[planted_N].sum(), share_N.sum(), size_N[planted_N]


def test_other_names_as_the_target_exchanged_answers_and_moved_places_do_not_find_them():
    right = influences(lambda one, *_: one)
    assert right[0] == pytest.approx(right[1])
    assert right[1] == pytest.approx(1, rel=0.01)
    unrelated = influences(lambda one, others, _: one._replace(io=others[0], s=others[1]))
    assert unrelated[1] < 1e-3
    swapped = influences(lambda one, _, n: one._replace(io=one.s, s=one.io) if n % 2 else one)
    assert swapped[2].max() < 1e-3 < 0.1 < right[2].min()
    moved = influences(lambda one, *_: one._replace(place_T=np.roll(one.place_T, 1)))
    assert moved[0] < 0.01 < 0.9 < moved[1]


def test_a_place_has_its_latents_checked_and_settings_out_of_bounds_are_refused():
    settings = {"splits": 1, "n_checked": 100, "at": "s2"}
    values = analyses.run("ioi_attributions", subjects(), **settings).values
    checked = [row for row in values["latents"] if row["taken_out"] is not None]
    assert {(row["place"], row["latent"]) for row in checked} == {("s2", n) for n in of(0)["s2"]}
    assert values["checks"][1]["n"] == 0
    values = analyses.run("ioi_attributions", subjects(), **settings | {"most": 1}).values
    # One in the graph, of another place; four of each layer are taken out.
    assert len(values["latents"]) == 9
    for bad in ({"splits": 0}, {"most": 0}, {"n_checked": 0}, {"at": "verb"}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            analyses.run("ioi_attributions", [Subject("nothing")], **bad)
