"""Numbers of other libraries have their formulas, quirks included; ours never leave their range."""

import itertools

import numpy as np
import pytest

from dictlearn import dictionaries, meters
from dictlearn.meters import Reading, Subject
from dictlearn.types import Codes
from tests.meters.test_meters import YHAT, Y

SUBJECT = Subject(dictionaries.make("relu", d_in=3, n_latents=2, sparsity=0.1))


def measured(y, yhat, cuts=(), codes=None, **settings):
    meter = meters.make("reconstruction", SUBJECT, **settings)
    codes = np.zeros((len(y), 2), np.float32) if codes is None else codes
    totals = meter.init()
    for a, b in itertools.pairwise([0, *cuts, len(y)]):
        reading = Reading(y[a:b], yhat[a:b], Codes(codes[a:b]), np.ones(b - a, bool))
        totals = meter.update(totals, meter.measure(reading))
    return meter.result(totals)


def test_the_formulas_of_saebench_have_their_exact_values():
    found = measured(Y, YHAT, compat=True)["compat"]["saebench"]
    assert found["mse"] == pytest.approx(0.4375)
    assert found["explained_variance"] == pytest.approx(1.0625)
    assert found["relative_reconstruction_bias"] == pytest.approx(0.815385, abs=1e-6)


def test_batches_weigh_the_same_in_other_libraries_and_tokens_in_ours():
    parts = (slice(0, 3), slice(3, 4))
    codes = np.array([[1, 0], [0, 0], [1, 2], [5, 3]], np.float32)
    alone = [measured(Y[part], YHAT[part], codes=codes[part]) for part in parts]
    found = measured(Y, YHAT, (3,), codes, compat=True)
    theirs = found["compat"]["dictionary_learning"]
    same = ("l2_loss", "l0", "cossim", "l2_ratio", "relative_reconstruction_bias")
    for theirs_key, key in [*((key, key) for key in same), ("l1_loss", "l1")]:
        mean = np.mean([values[key] for values in alone])
        assert theirs[theirs_key] == pytest.approx(mean, rel=1e-6), key
        assert abs(found[key] - mean) > 1e-3, key
    whole = measured(Y, YHAT, compat=True)
    variance = whole["compat"]["dictionary_learning"]["frac_variance_explained"]
    assert variance == pytest.approx(0.905) == whole["fve_varratio"]


def test_all_else_is_as_without_compat_and_empty_batches_are_no_batches():
    plain = measured(Y, YHAT, (2,))
    both = measured(Y, YHAT, (2, 2), compat=True)
    compat = both.pop("compat")
    assert both == plain
    assert compat == measured(Y, YHAT, (2,), compat=True)["compat"]


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_no_share_of_the_variance_that_is_explained_exceeds_one(scale):
    random = np.random.default_rng(0)
    for mean, error in itertools.product((0, 1e3, -1e6), (0, 1e-7, 0.5, 100)):
        y = random.normal(mean, 1.0, (17, 3)).astype(np.float32) * np.float32(scale)
        noise = random.normal(0, 1.0, y.shape).astype(np.float32)
        yhat = y + np.float32(error * scale) * noise
        found = measured(y, yhat, (5, 6))
        for key in (
            "explained_variance",
            "explained_variance_legacy",
            "fve_varratio",
            "r2_per_dim",
        ):
            assert found[key] <= 1, (key, mean, error)
