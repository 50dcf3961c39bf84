"""A new analysis is one new file: the command line, a config and the page find it, and conformance holds."""

import pytest

from tests.dropin import drop_in

ANALYSIS = '''
"""How long the atoms of each dictionary are."""

from collections.abc import Sequence

import numpy as np

from dictlearn.analyses._result import Result, Table
from dictlearn.analyses._subject import Subject


def dropped_in(subjects: Sequence[Subject], *, order: float = 2.0) -> Result:
    """The mean norm of every dictionary's atoms."""
    rows = [
        (one.name, np.linalg.norm(one.variables["params"]["W_dec_FD"], ord=order, axis=1).mean())
        for subject in subjects
        for one in subject.trained
    ]
    return Result(dict(sorted(rows)), [Table("Norms of atoms", ("dictionary", "norm"), rows)])
'''
SUITE = "tests/analyses/test_conformance.py"


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    careless = ANALYSIS.replace("dict(sorted(rows))", '{"value": np.random.normal()}')
    assert careless != ANALYSIS
    files = {"dropped_in": ANALYSIS, "careless": careless.replace("dropped_in", "careless")}
    files = {f"analyses/{name}": text for name, text in files.items()}
    chosen = "dropped_in or careless and again"
    return drop_in(tmp_path_factory.mktemp("new"), files, SUITE, chosen)


def test_one_dropped_in_file_passes_conformance_untouched(found):
    passed, failed, log = found["dropped_in"]
    assert len(passed) >= 6, log
    assert not failed, log


def test_an_analysis_that_forgets_what_it_was_asked_is_caught(found):
    assert len(found["careless"].failed) == 1, found["careless"].log
