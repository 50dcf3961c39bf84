"""A new law is one new file: dropped into the folder, it passes conformance."""

import pytest

from tests.dropin import drop_in

LAW = '''
"""L(n), a power of the logarithm of the width (a test's law)."""

import numpy as np

from dictlearn.scaling.law import Law, one

dropped_in = Law(
    name="dropped_in",
    equation="L(n) = exp(size) (ln n)^-exponent",
    inputs=("n",),
    terms=({"size": one, "exponent": lambda x: -np.log(np.log(x["n"]))},),
    starts={"size": (-1.0, 0.0, 1.0), "exponent": (0.5, 1.0, 2.0)},
    example={"size": 1.2, "exponent": 0.9},
)
'''

SUITE = "tests/scaling/test_conformance.py"


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    flat = LAW.replace('lambda x: -np.log(np.log(x["n"]))', "one").replace("dropped_in", "flat")
    files = {"scaling/laws/dropped_in": LAW, "scaling/laws/flat": flat}
    chosen = "dropped_in or flat and recovered"
    return drop_in(tmp_path_factory.mktemp("new"), files, SUITE, chosen)


def test_one_dropped_in_file_passes_conformance_untouched(found):
    passed, failed, log = found["dropped_in"]
    assert len(passed) == 9, log
    assert not failed, log


def test_a_law_whose_parameters_no_run_tells_apart_is_caught(found):
    _, failed, log = found["flat"]
    assert failed == {"test_planted_parameters_are_recovered"}, log
