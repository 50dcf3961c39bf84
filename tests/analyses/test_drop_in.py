"""A new analysis is one new file: the command line, a config and the page find it, and conformance holds."""

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


def test_one_dropped_in_file_passes_conformance_untouched(tmp_path):
    found = drop_in(tmp_path, "analyses", ANALYSIS, SUITE)
    assert len(found.passed) >= 6, found.log
    assert not found.failed, found.log


def test_an_analysis_that_forgets_what_it_was_asked_is_caught(tmp_path):
    text = ANALYSIS.replace("dict(sorted(rows))", '{"value": np.random.normal()}')
    found = drop_in(tmp_path, "analyses", text, SUITE, chosen="dropped_in and twice")
    assert len(found.failed) == 1, found.log
