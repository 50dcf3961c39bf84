"""A new meter is one new file: dropped into the folder, it passes conformance and is measured."""

from tests.dropin import drop_in

METER = '''
"""The largest error of any token (a test's meter)."""

import jax.numpy as jnp
import numpy as np

from dictlearn.meters import Column, not_finite, refuse_not_finite
from dictlearn.ops.lengths import length
from dictlearn.types import Meter

COLUMNS = (Column("largest_error", "worst", "largest error of a token", ".3f", -1),)


def dropped_in(subject, *, scale=1.0):
    def measure(reading):
        y_BD, yhat_BD = (a.astype(jnp.float32) for a in (reading.y_BD, reading.yhat_BD))
        error_B = length(y_BD - yhat_BD, -1)
        worst = jnp.where(reading.mask_B, error_B, 0).max(initial=0)
        return {"worst": worst, "not_finite": not_finite(reading)}

    def update(totals, sums):
        refuse_not_finite(sums["not_finite"])
        return {"worst": np.maximum(totals.get("worst", 0.0), np.float64(sums["worst"]))}

    return Meter(measure, dict, update, lambda t: {"largest_error": scale * float(t["worst"])})
'''

SUITE = "tests/meters/test_conformance.py"


def test_one_dropped_in_file_passes_conformance_untouched(tmp_path):
    found = drop_in(tmp_path, "meters", METER, SUITE)
    assert len(found.passed) == 13, found.log
    assert not found.failed, found.log


def test_a_meter_that_counts_padding_is_caught(tmp_path):
    right = "jnp.where(reading.mask_B, error_B, 0)"
    assert right in METER
    found = drop_in(tmp_path, "meters", METER.replace(right, "error_B"), SUITE)
    assert found.failed == {"test_padding_counts_for_nothing_however_wild"}, found.log


def test_a_meter_whose_squares_leave_float32_is_caught(tmp_path):
    right = "length(y_BD - yhat_BD, -1)"
    assert right in METER
    narrow = METER.replace(right, "jnp.sum((y_BD - yhat_BD) ** 4, -1) ** 0.25")
    found = drop_in(tmp_path, "meters", narrow, SUITE, chosen="any_scale")
    assert "test_a_value_is_the_same_at_any_scale_or_scales_with_it" in found.failed, found.log
