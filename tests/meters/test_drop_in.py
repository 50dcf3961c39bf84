"""A new meter is one new file: dropped into the folder, it passes conformance and is measured."""

import pytest

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


def changed(right, wrong, name):
    assert right in METER
    return METER.replace(right, wrong).replace("dropped_in", name)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    squares = "jnp.sum((y_BD - yhat_BD) ** 4, -1) ** 0.25"
    files = {
        "meters/dropped_in": METER,
        "meters/padded": changed(
            "jnp.where(reading.mask_B, error_B, 0)", "error_B", "padded"
        ).replace("largest_error", "padded_error"),
        "meters/narrow": changed("length(y_BD - yhat_BD, -1)", squares, "narrow").replace(
            "largest_error", "narrow_error"
        ),
    }
    chosen = "dropped_in or padded or narrow and any_scale"
    return drop_in(tmp_path_factory.mktemp("new"), files, SUITE, chosen)


def test_one_dropped_in_file_passes_conformance_untouched(found):
    passed, failed, log = found["dropped_in"]
    assert len(passed) == 13, log
    assert not failed, log


def test_a_meter_that_counts_padding_is_caught(found):
    assert found["padded"].failed == {"test_padding_counts_for_nothing_however_wild"}, found[
        "padded"
    ].log


def test_a_meter_whose_squares_leave_float32_is_caught(found):
    _, failed, log = found["narrow"]
    assert "test_a_value_is_the_same_at_any_scale_or_scales_with_it" in failed, log
