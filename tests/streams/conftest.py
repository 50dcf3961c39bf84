"""Small streams whose rows carry their own number in column 0."""

import numpy as np
import pytest

from dictlearn import streams
from tests.streams.language import load, write_lm, write_text
from tests.streams.numbered import numbered, write_store


@pytest.fixture(scope="session")
def store_path(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("streams") / "store")


@pytest.fixture(scope="session")
def lm_path(tmp_path_factory):
    return write_lm(tmp_path_factory.mktemp("lm"))


@pytest.fixture(scope="session")
def lm(lm_path):
    return load(lm_path)


@pytest.fixture(scope="session")
def text(tmp_path_factory):
    return write_text(tmp_path_factory.mktemp("text") / "text.txt")


@pytest.fixture(scope="session")
def npy_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("streams") / "rows.npy"
    np.save(path, numbered(5))
    return path


@pytest.fixture(params=["store", "npy", "synthetic"])
def make_any(request, store_path, npy_path):
    """Each stream, as a function of seed and process that gives batches of 32."""
    arguments = {
        "store": {"path": store_path, "tap": "resid.0", "block_rows": 8},
        "npy": {"path": npy_path},
        "synthetic": {"kind": "p1"},
    }[request.param]

    def make(seed=0, process=None, **more):
        given = {"seed": seed, "process": process, **arguments, **more}
        return streams.make(request.param, batch_size=32, **given)

    return make
