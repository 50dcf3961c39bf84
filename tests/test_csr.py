"""Sentences embedded, trained on and searched: the experiment `csr`, small, with the real encoder."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest

from dictlearn import cli

FILE = Path(__file__).parents[1] / "experiments" / "csr.py"
CSR = runpy.run_path(str(FILE))
HOME = CSR["HOME"]["smoke"]


@pytest.fixture(scope="module")
def inside(tmp_path_factory):
    """A folder in which the whole experiment has run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("csr"))
        CSR["embed"]("smoke")
        assert cli.main(["train", f"--config={FILE}:smoke", f"--workdir={HOME}"]) == 0
        yield


def test_queries_come_from_other_articles_than_the_database(inside):
    n_train, n_queries, _ = CSR["SIZES"]["smoke"]
    articles = json.loads((HOME / "labels.json").read_text())["group"]
    x_ND = np.load(HOME / "sentences.npy")
    assert x_ND.shape == (n_train + n_queries, 384)
    np.testing.assert_allclose(np.linalg.norm(x_ND, axis=1), 1, rtol=1e-5)
    assert not set(articles[:n_train]) & set(articles[n_train:])


def test_every_way_is_measured_beside_the_whole_embedding(inside):
    found = json.loads((HOME / "analyses" / "retrieval.json").read_text())["values"]["ways"]
    gammas = {f"csr, gamma {gamma:g}" for gamma in CSR["GAMMAS"]}
    ways = {way: [row for row in found if row["way"] == way] for way in {r["way"] for r in found}}
    assert ways.keys() == {"whole", "pca", "truncation", "topk", *gammas}
    assert all(len(rows) == len(CSR["KS"]) for way, rows in ways.items() if way != "whole")
    assert all(0 <= row[label] <= 1 for row in found for label in ("class", "group"))
    assert [row["size"] for row in ways["pca"]] == [*CSR["KS"]]
    assert min(row["size"] for row in ways["topk"]) <= 8
    assert ways["whole"][0]["class"] > ways["truncation"][0]["class"]
    assert "<svg" in (HOME / "analyses" / "retrieval.svg").read_text()
