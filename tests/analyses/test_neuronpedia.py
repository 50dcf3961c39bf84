"""Neuronpedia's features say what the dictionary does on the text, by brute force."""

import json
from collections import Counter

import numpy as np
import pytest

from dictlearn import cli, dense, interop
from dictlearn import lm as language
from dictlearn.analyses import _feature_text
from tests.interop.test_conformance import trained
from tests.lm import toy

F, T, TAP = 32, 8, "resid.0"
NUMBERS = ("indices", "values", "l1"), ("indices", "pearson", "l1"), ("indices", "pearson", "l1")
TABLES = ("neuron_alignment", "correlated_neurons", "correlated_features")
FEATURE = {
    **{f"{a}_{b}": list for a, bs in zip(TABLES, NUMBERS, strict=True) for b in bs},
    **{key: list for key in ("neg_str", "neg_values", "pos_str", "pos_values", "activations")},
    **{f"freq_hist_data_bar_{key}": list for key in ("values", "heights")},
    **{f"logits_hist_data_bar_{key}": list for key in ("values", "heights")},
    **{"decoder_weights_dist": list, "vector": list, "dataset": str, "feature_index": int},
    **{"frac_nonzero": float, "n_prompts_total": int, "n_tokens_in_prompt": int},
}
"""The keys of a feature, and of an activation, as SAEDashboard has them for Neuronpedia."""
ACTIVATION = {"bin_min": float, "bin_max": float, "bin_contains": float, "tokens": list}
ACTIVATION |= {"values": list, "qualifying_token_index": int}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A toy model, a text, a dictionary of which most latents fire, and its features."""
    home = tmp_path_factory.mktemp("home")
    spec = toy.model_and_text(home)
    interop.save(trained("topk", d_in=spec.d_model), home / "one.npz", "npz")
    words = [f"--dictionary={home / 'one.npz'}", f"--model={home / 'toy.gguf'}", f"--tap={TAP}"]
    words += [f"--text={home / 'text.jsonl'}", f"--length={T}", f"--workdir={home / 'out'}"]
    assert cli.main(["latents", *words, "--to=neuronpedia", "--splits=2"]) == 0
    return home


@pytest.fixture(scope="module")
def batches(home):
    folder = home / "out" / "neuronpedia" / TAP
    return [json.loads((folder / f"batch-{n}.json").read_text()) for n in range(2)]


@pytest.fixture(scope="module")
def truth(home):
    """(the model, the dictionary, tokens [S, T], codes [S, T, F])."""
    lm, one = language.load("toy", str(home / "toy.gguf")), interop.load(home / "one.npz")
    whole, _ = language.sequences(home / "text.jsonl", lm.tokenizer, T, lm.separator, held_out=0.0)
    x_STD = np.asarray(lm.forward(lm.params, whole.tokens_ST)[1][TAP])
    codes = np.asarray(dense(one.encode(x_STD.reshape(-1, x_STD.shape[-1])), F))
    codes_STF = codes.reshape(*whole.tokens_ST.shape, F) * whole.mask_ST[:, :, None]
    return lm, one, whole, codes_STF


def test_every_latent_is_a_feature_or_never_fires(home, batches, truth):
    found = [one["feature_index"] for batch in batches for one in batch["features"]]
    fires = np.flatnonzero(truth[3].any((0, 1))).tolist()
    assert found == fires
    assert 0 < len(found) < F
    told = json.loads((home / "out" / "neuronpedia" / TAP / "skipped_indexes.json").read_text())
    assert sorted(found + told["skipped_indexes"]) == list(range(F))
    assert {batch["model_id"] for batch in batches} == {"toy"}
    assert {batch["layer"] for batch in batches} == {0}


def kinds(told):
    return {key: type(value) for key, value in told.items()}


def test_files_have_the_keys_and_kinds_of_the_reference_and_survive_json(batches):
    about = {"model_id": str, "layer": int, "sae_set": str, "sae_id_suffix": type(None)}
    for batch in batches:
        assert kinds(batch) == {**about, "features": list}
        assert json.loads(json.dumps(batch, allow_nan=False)) == batch
        for feature in batch["features"]:
            assert kinds(feature) == FEATURE
            assert all(kinds(one) == ACTIVATION for one in feature["activations"])
            assert feature["activations"][0]["bin_min"] == -1


def test_a_feature_is_what_the_latent_does(batches, truth):
    lm, one, whole, codes_STF = truth
    unembed_DV = lm.params["embed_VD"].T if lm.spec.tied else lm.params["unembed_DV"]
    W_FD = np.asarray(one.variables["params"]["W_dec_FD"]) * np.asarray(lm.params["norm_D"])
    logits_FV = W_FD @ np.asarray(unembed_DV)
    for feature in (each for batch in batches for each in batch["features"]):
        codes_ST, logits_V = (
            codes_STF[:, :, feature["feature_index"]],
            logits_FV[feature["feature_index"]],
        )
        fired = codes_ST[codes_ST != 0]
        np.testing.assert_allclose(feature["frac_nonzero"], len(fired) / whole.mask_ST.sum())
        assert sum(feature["freq_hist_data_bar_heights"]) == len(fired)
        assert sum(feature["logits_hist_data_bar_heights"]) == len(logits_V)
        ends = np.sort(logits_V)
        np.testing.assert_allclose(feature["pos_values"], ends[::-1][:10], rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(feature["neg_values"], ends[:10], rtol=1e-3, atol=1e-4)


def test_a_feature_names_its_largest_dimensions_and_the_features_like_it(batches, truth):
    _, one, whole, codes_STF = truth
    W_FD, codes_UF = np.asarray(one.variables["params"]["W_dec_FD"]), codes_STF[whole.mask_ST]
    likes = 0
    for feature in (each for batch in batches for each in batch["features"]):
        i, size_D = feature["feature_index"], np.abs(W_FD[feature["feature_index"]])
        at = feature["neuron_alignment_indices"]
        np.testing.assert_allclose(size_D[at], np.sort(size_D)[::-1][:3], rtol=1e-5)
        np.testing.assert_allclose(feature["neuron_alignment_values"], W_FD[i][at], rtol=1e-4)
        share = size_D[at] / size_D.sum()
        np.testing.assert_allclose(feature["neuron_alignment_l1"], share, rtol=1e-4)
        lists = (feature[f"correlated_features_{key}"] for key in ("indices", "pearson", "l1"))
        for j, r, cosine in zip(*lists, strict=True):
            assert j != i
            a, b = codes_UF[:, i], codes_UF[:, j]
            assert r == pytest.approx(np.corrcoef(a, b)[0, 1], abs=1e-3)
            assert cosine == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), abs=1e-3)
            likes += 1
    assert likes


def test_activations_are_whole_sequences_in_groups_of_their_size(batches, truth):
    _, _, whole, codes_STF = truth
    for feature in (each for batch in batches for each in batch["features"]):
        codes_ST, shown = codes_STF[:, :, feature["feature_index"]], feature["activations"]
        fired, peaks = np.sort(codes_ST[codes_ST != 0])[::-1], Counter()
        for one in shown:
            assert len(one["tokens"]) == len(one["values"]) == T
            near = np.isclose(codes_ST, one["values"], rtol=1e-3, atol=1e-5).all(1)
            assert near.any()
            peak = one["values"][one["qualifying_token_index"]]
            assert one["bin_min"] < peak <= one["bin_max"] * 1.001
            peaks[one["bin_min"], one["bin_contains"]] += 1
        most = [
            one["values"][one["qualifying_token_index"]] for one in shown if one["bin_min"] == -1
        ]
        wanted = fired[: _feature_text.TOP]
        np.testing.assert_allclose(most, wanted, rtol=1e-3, atol=1e-5)
        assert all(n <= _feature_text.PART for (low, _), n in peaks.items() if low >= 0)
        shares = [share for low, share in peaks if low >= 0]
        np.testing.assert_allclose(sum(shares) * whole.mask_ST.sum(), len(fired), rtol=1e-6)


def test_more_batches_than_latents_that_fire_are_refused(home, capsys):
    words = [f"--dictionary={home / 'one.npz'}", f"--model={home / 'toy.gguf'}", f"--tap={TAP}"]
    words += [f"--text={home / 'text.jsonl'}", f"--length={T}", f"--workdir={home / 'out'}"]
    assert cli.main(["latents", *words, "--to=neuronpedia", f"--splits={F}"]) == 1
    assert "latents that fire" in capsys.readouterr().err
