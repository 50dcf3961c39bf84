"""Sparse probes of documents: means of the right tokens, a ceiling, a floor, and imported dictionaries."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn import analyses, dictionaries, interop, tasks
from dictlearn import lm as language
from dictlearn.analyses import Subject, _documents, _probing
from dictlearn.analyses._asked import interval
from dictlearn.ops.firing import dense
from dictlearn.runs.trained import Site, Trained

QUICK = {"tasks": {"planted": {"n": 30, "classes": 3}}, "n_train": 40, "n_test": 16, "splits": 2}


@pytest.fixture(scope="module")
def lm(model):
    return language.load(**model)


@pytest.fixture(scope="module")
def mine(lm):
    """A dictionary that was not trained, of a tap of the toy."""
    module = dictionaries.make("topk", d_in=lm.spec.d_model, n_latents=64, k=3)
    site = Site({}, ("resid.1",), ("resid.1",), {})
    return Trained(
        module, module.init(jax.random.key(0), method="declare"), sites=(site,), name="a"
    )


@pytest.fixture(scope="module")
def found(mine, model):
    return analyses.run("sparse_probing", [mine], model=model["path"], **QUICK)


def test_means_are_over_the_documents_own_tokens(mine, lm):
    texts = ["the cat", "a longer text: of many words — and more of them", "x < y"]
    tokens = _documents.tokens(lm, texts, context=12)
    assert [each[0] for each in tokens] == [lm.separator] * 3
    assert max(map(len, tokens)) == 12
    means = _documents.means(lm, ("resid.1",), [mine], tokens)
    for s, each in enumerate(tokens):
        x_TD = lm.forward(lm.params, jnp.asarray([each]))[1]["resid.1"][0, 1:]
        np.testing.assert_allclose(means.x_SD[s], x_TD.mean(0), rtol=1e-4, atol=1e-5)
        code_TF = dense(mine.encode(x_TD), mine.module.n_latents)
        np.testing.assert_allclose(means.code_SF[0][s], code_TF.mean(0), rtol=1e-3, atol=1e-5)
    assert means.l0 == [pytest.approx(3, abs=0.1)]


def test_planted_codes_are_at_the_ceiling_and_shuffled_labels_at_the_floor():
    random = np.random.default_rng(0)
    drawn = tasks.draw(tasks.make("planted", n=100, classes=4), 120, 60)
    how = _probing.How((1, 5), 1, True, 0)
    code_SF = np.maximum(random.normal(size=(len(drawn.text), 64)), 0)
    code_SF[:, :4] = 1.0 * (drawn.class_S[:, None] == np.arange(4))
    turned_SF = code_SF @ np.linalg.qr(random.normal(size=(64, 64)))[0]
    rows = {("llm", ""): turned_SF, ("sae", "mine"): code_SF, ("random", "mine"): turned_SF}
    accuracy = lambda found, kind, k: np.mean(
        _probing.runs((kind, "mine" if kind != "llm" else ""), _probing.top(k), {"planted": found})
    )
    found = _probing.measured(how, drawn, rows)
    assert accuracy(found, "sae", 1) == 1
    assert accuracy(found, "random", 1) < 0.85
    assert np.mean(_probing.runs(("llm", ""), "test_accuracy", {"planted": found})) > 0.9
    shuffled = drawn._replace(class_S=random.permutation(drawn.class_S))
    counts = np.bincount(shuffled.class_S)
    assert len(set(counts)) == 1
    chance = _probing.measured(how, shuffled, rows)
    assert accuracy(chance, "sae", 5) == pytest.approx(0.5, abs=0.08)


def test_the_record_has_the_keys_of_saebench(found):
    (record,) = found.values["dictionaries"].values()
    metrics = record["eval_result_metrics"]
    assert metrics["llm"].keys() == {
        f"llm_{one}" for one in _probing.How((1, 2, 5), 1, True, 0).keys
    }
    assert metrics["sae"].keys() == {f"sae_top_{k}_test_accuracy" for k in (1, 2, 5)}
    (detail,) = record["eval_result_details"]
    assert detail["dataset_name"] == "planted"
    assert all(0 <= value <= 1 for key, value in detail.items() if key != "dataset_name")
    classes = record["eval_result_unstructured"]["planted_results"]["sae_top_1_test_accuracy"]
    assert detail["sae_top_1_test_accuracy"] == pytest.approx(np.mean(list(classes.values())))
    assert found.values["documents"] == {"planted": dict.fromkeys(classes, 28)}


def test_an_imported_dictionary_is_measured_in_its_model(mine, model, found, tmp_path):
    path = tmp_path / "a.npz"
    interop.save(mine, path, "npz")
    with pytest.raises(ValueError, match="name its model"):
        analyses.run("sparse_probing", [path], **QUICK)
    read = analyses.run("sparse_probing", [path], model=model["path"], **QUICK)
    (theirs,), (ours,) = (each.values["dictionaries"].values() for each in (read, found))
    assert theirs == ours
    with pytest.raises(ValueError, match=r"reads 12 numbers, but mlp_act.0 of .* has 20"):
        analyses.run("sparse_probing", [path], model=model["path"], tap="mlp_act.0", **QUICK)


def test_intervals_are_students():
    assert interval([]) == (None, None)
    assert interval([0.5]) == (0.5, None)
    mean, half = interval([0.4, 0.6])
    assert (mean, half) == (0.5, pytest.approx(12.706 * 0.1, rel=1e-3))


@pytest.mark.parametrize("bad", [{"ks": ()}, {"ks": (0,)}, {"splits": 0}])
def test_settings_out_of_bounds_are_refused_before_the_model_runs(bad):
    with pytest.raises(ValueError, match="must be numbers of latents"):
        analyses.run("sparse_probing", [Subject("nothing")], **bad)
