"""A new stream is one new file: dropped into the folder, dictionaries train on it, resume and are evaluated."""

import pytest

from tests.dropin import drop_in

STREAM = '''
"""Gaussian rows, a direction at a time (a test's stream)."""

import grain
import numpy as np

from dictlearn.normalise import Norm
from dictlearn.streams import Stream
from dictlearn.types import Batch


def dropped_in(*, batch_size, seed, normalise="none", process=None):
    def batch(step):
        rows = np.random.default_rng([seed, step]).normal(size=(batch_size, 12))
        rows_BD = rows.astype(np.float32)
        return Batch(rows_BD, rows_BD)

    return Stream(
        d_in=12,
        d_out=12,
        batches=grain.MapDataset.range(10**6).map(batch),
        norm=Norm(),
        held_out=grain.MapDataset.range(10**6, 10**6 + 8).map(batch),
    )
'''

SUITE = "tests/streams/test_conformance.py"


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    right = "[seed, step]"
    assert right in STREAM
    drawn = STREAM.replace(right, "").replace("dropped_in", "drawn")
    files = {"streams/dropped_in": STREAM, "streams/drawn": drawn}
    return drop_in(tmp_path_factory.mktemp("new"), files, SUITE, "dropped_in or drawn and bit")


def test_one_dropped_in_file_passes_conformance_untouched(found):
    passed, failed, log = found["dropped_in"]
    assert len(passed) == 3, log
    assert not failed, log


def test_a_stream_whose_batches_are_not_of_their_step_is_caught(found):
    _, failed, log = found["drawn"]
    assert any("resume_to_the_bit" in name for name in failed), log
