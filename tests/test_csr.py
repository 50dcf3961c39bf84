"""Sentences embedded, trained on and searched: the experiment `csr`, small, with the real encoder."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest

CSR = runpy.run_path(str(Path(__file__).parents[1] / "experiments" / "csr.py"))
HOME = Path("runs/csr-smoke")


@pytest.fixture(scope="module")
def inside(tmp_path_factory):
    """A folder in which the whole experiment has run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("csr"))
        assert CSR["main"]("smoke") == 0
        yield


def test_queries_come_from_other_articles_than_the_database(inside):
    n_train, n_queries, _ = CSR["SIZES"][True]
    labels = json.loads((HOME / "labels.json").read_text())
    x_ND = np.load(HOME / "sentences.npy")
    assert x_ND.shape == (n_train + n_queries, 384)
    np.testing.assert_allclose(np.linalg.norm(x_ND, axis=1), 1, rtol=1e-5)
    assert not set(labels["article"][:n_train]) & set(labels["article"][n_train:])


def test_every_way_is_measured_beside_the_whole_embedding(inside):
    found = json.loads((HOME / "csr.json").read_text())
    gammas = {f"csr, gamma {gamma:g}" for gamma in CSR["GAMMAS"]}
    assert found["curves"].keys() == {"pca", "truncation", "topk", *gammas}
    for curve, points in found["curves"].items():
        assert points.keys() == {str(k) for k in CSR["KS"]}
        shares = [point[label] for point in points.values() for label in ("topic", "article")]
        assert all(0 <= share <= 1 for share in shares), curve
        assert curve in ("pca", "truncation") or points["8"]["l0"] <= 8
    assert found["whole"]["topic"] > found["curves"]["truncation"]["8"]["topic"]
    assert (HOME / "csr.png").read_bytes()[:4] == b"\x89PNG"


def test_accuracy_is_that_of_the_nearest_by_angle():
    rows = np.array([[1, 0], [0, 1], [9, 1], [1, 8], [1, 9], [5, 4]], float)
    topics, articles = np.array(list("ababab")), np.array([0, 1, 2, 3, 3, 4])
    found = CSR["accuracy"](rows, topics, articles, 2)
    assert found == {"topic": 0.5, "article": 1.0}
