"""Core numbers are the numbers of `dictlearn eval`; a whole basis is the ceiling, zeros are the floor."""

import dataclasses

import jax
import numpy as np
import pytest

from dictlearn import analyses, dictionaries
from dictlearn.analyses import _documents
from dictlearn.runs.trained import Trained
from dictlearn.runs.workdir import read_json

SAME = {
    "explained_variance": "explained_variance",
    "l0": "l0",
    "l2_ratio": "l2_ratio",
    "frac_alive": "frac_alive",
    "ce_loss_score": "ce_score",
    "kl_div_with_sae": "kl",
    "total_tokens_eval_reconstruction": "ce_tokens",
}
WIDTH = 12


def basis():
    return dataclasses.replace(
        _documents.mirrored(np.eye(WIDTH), np.zeros(WIDTH), WIDTH), name="whole"
    )


def zeros():
    whole = basis()
    params = jax.tree.map(np.zeros_like, whole.variables["params"])
    return dataclasses.replace(whole, variables={"params": params}, name="zero")


def test_the_numbers_are_those_of_an_evaluation(spoken):
    found = analyses.run("core", [spoken], n_tokens=400, n_sequences=8, latents=True).values
    (record,) = found["dictionaries"].values()
    groups = record["eval_result_metrics"].values()
    flat = {key: value for group in groups for key, value in group.items()}
    (kept,) = read_json(spoken / "metrics.json", "eval").values()
    for theirs, ours in SAME.items():
        assert flat[theirs] == pytest.approx(kept[ours], rel=1e-4), theirs
    density = [each["feature_density"] for each in record["eval_result_details"]]
    assert np.sum(density) == pytest.approx(kept["l0"], rel=1e-4)
    config = read_json(spoken / "config.json", "train")
    assert len(density) == config["dictionary"]["n_latents"]
    by_kind = {row["kind"]: row for row in found["settings"]}
    assert by_kind["random"]["l0"] == pytest.approx(flat["l0"], abs=0.6)
    assert by_kind["random"]["explained_variance"] < flat["explained_variance"]


def test_a_whole_basis_is_the_ceiling_and_zeros_are_the_floor(model, tmp_path):
    lines = "\n".join(f'{{"text": "the cat sat on mat {i} of many"}}' for i in range(40))
    (tmp_path / "text.jsonl").write_text(lines)
    given = {"model": model["path"], "tap": "resid.1", "text": str(tmp_path / "text.jsonl")}
    sizes = {"n_tokens": 192, "n_sequences": 8, "context": 24}
    for one, score in ((basis(), 1), (zeros(), 0)):
        (record,) = analyses.run("core", [one], **given, **sizes).values["dictionaries"].values()
        metrics = record["eval_result_metrics"]
        of_model = metrics["model_performance_preservation"], metrics["model_behavior_preservation"]
        assert of_model[0]["ce_loss_score"] == pytest.approx(score, abs=1e-3)
        assert of_model[1]["kl_div_score"] == pytest.approx(score, abs=1e-3)
        explained = metrics["reconstruction_quality"]["explained_variance"]
        assert explained == pytest.approx(1, abs=1e-4) if score else explained < 0.01


def test_what_core_refuses(model):
    other = dictionaries.make("topk", d_in=WIDTH, d_out=4, n_latents=16, k=2)
    transcoder = Trained(other, other.init(jax.random.key(0), method="declare"), name="across")
    with pytest.raises(ValueError, match="across is a transcoder"):
        analyses.run("core", [transcoder], model=model["path"], tap="resid.1")
