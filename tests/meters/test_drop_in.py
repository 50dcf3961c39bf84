"""A new meter is one new file: dropped into the folder, it passes conformance and is measured."""

from tests.dropin import drop_in

METER = '''
"""The largest error of any token (a test's meter)."""

import jax.numpy as jnp
import numpy as np

from dictlearn.meters import Column
from dictlearn.types import Meter

COLUMNS = (Column("largest_error", "worst", "largest error of a token", ".3f", -1),)


def dropped_in(subject, *, scale=1.0):
    def measure(reading):
        error_B = jnp.sum((reading.y_BD - reading.yhat_BD) ** 2, -1)
        return {"worst": jnp.where(reading.mask_B, error_B, 0).max()}

    def update(totals, sums):
        return {"worst": np.maximum(totals.get("worst", 0.0), np.float64(sums["worst"]))}

    return Meter(measure, dict, update, lambda t: {"largest_error": scale * float(t["worst"])})
'''

SUITE = "tests/meters/test_conformance.py"


def test_one_dropped_in_file_passes_conformance_untouched(tmp_path):
    found = drop_in(tmp_path, "meters", METER, SUITE)
    assert len(found.passed) == 6, found.log
    assert not found.failed, found.log


def test_a_meter_that_counts_padding_is_caught(tmp_path):
    right = "jnp.where(reading.mask_B, error_B, 0)"
    assert right in METER
    found = drop_in(tmp_path, "meters", METER.replace(right, "error_B"), SUITE)
    assert found.failed == {"test_padding_counts_for_nothing_however_wild"}, found.log
