"""A new stream is one new file: dropped into the folder, dictionaries train on it, resume and are evaluated."""

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


def test_one_dropped_in_file_passes_conformance_untouched(tmp_path):
    found = drop_in(tmp_path, "streams", STREAM, SUITE)
    assert len(found.passed) == 3, found.log
    assert not found.failed, found.log


def test_a_stream_whose_batches_are_not_of_their_step_is_caught(tmp_path):
    right = "[seed, step]"
    assert right in STREAM
    found = drop_in(tmp_path, "streams", STREAM.replace(right, ""), SUITE)
    assert any("resume_to_the_bit" in name for name in found.failed), found.log
