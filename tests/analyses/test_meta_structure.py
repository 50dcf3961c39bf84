"""Atoms that are sums of shared directions score near 1, and a rotation of none of them does."""

import functools
import itertools

import jax
import numpy as np
import pytest

from dictlearn import analyses, dictionaries
from dictlearn.analyses import Subject
from dictlearn.analyses.meta_structure import How, alike, scored
from dictlearn.runs.trained import Trained
from tests.analyses.test_unlearning import mirrored

KEY = "meta_structure_score"


@functools.cache
def sums():
    """The sums of 2 of 16 orthogonal directions in 24 dimensions, at unit length."""
    axes_DD = np.linalg.qr(np.random.default_rng(0).normal(size=(24, 24)))[0]
    pairs = itertools.combinations(axes_DD[:16], 2)
    return np.stack([(a + b) / np.sqrt(2) for a, b in pairs]).astype(np.float32)


@pytest.mark.slow
def test_sums_of_two_of_sixteen_directions_score_near_one():
    """T-B9."""
    how = How(2, 0.25, 1500, 1024, 5e-4)
    found = [scored(sums(), how, seed) for seed in (0, 1)]
    random, _ = scored(alike(sums(), 0), how, 0)
    assert min(score for score, _ in found) > 0.95
    assert random < 0.8
    assert [own for _, own in found] == pytest.approx([2, 2], abs=0.3)


def test_random_rows_have_the_mean_and_the_covariance_of_others():
    own_FD = np.random.default_rng(1).normal(size=(4000, 4)) * [3, 1, 1, 0] + [2, 0, 0, 0]
    own_FD /= np.linalg.norm(own_FD, axis=1, keepdims=True)
    found_FD = alike(own_FD, 0)
    np.testing.assert_allclose(np.linalg.norm(found_FD, axis=1), 1, atol=1e-5)
    assert found_FD[:, 3] == pytest.approx(0, abs=1e-6)
    assert found_FD[:, 0].mean() > 0.2
    assert not np.allclose(found_FD, alike(own_FD, 1))


def test_the_table_has_both_baselines_and_an_interval():
    subject = Subject("toy", given=[mirrored("own", np.eye(12))])
    values = analyses.run("meta_structure", [subject], steps=20, seeds=2).values
    rows = {row["kind"]: row for row in values["settings"]}
    assert rows.keys() == {"sae", "random", "untrained"}
    assert all(row["runs"] == 2 and row[f"{KEY}_half"] is not None for row in rows.values())
    record = values["dictionaries"]["own"]["eval_result_metrics"]["meta_structure"]
    assert record[KEY] == pytest.approx(rows["sae"][KEY])
    again = analyses.run("meta_structure", [subject], steps=20, seeds=2).values
    assert again == values


def test_a_dictionary_that_begins_without_atoms_has_no_untrained_baseline():
    module = dictionaries.make("itda", d_in=8, n_latents=32, k=2)
    variables = module.init(jax.random.key(0), method="declare")
    drawn = lambda a: np.asarray(jax.random.normal(jax.random.key(1), a.shape), a.dtype)
    one = Trained(module, jax.tree.map(drawn, variables), name="itda")
    values = analyses.run("meta_structure", [Subject("toy", given=[one])], steps=3).values
    rows = {row["kind"]: row for row in values["settings"]}
    assert rows["sae"][KEY] is not None
    assert (rows["untrained"][KEY], rows["untrained"]["l0"]) == (None, None)


@pytest.mark.parametrize("bad", [{"k": 0}, {"width": 2.0}, {"seeds": 0}, {"lr": -1.0}])
def test_settings_out_of_bounds_are_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        analyses.run("meta_structure", [Subject("toy", given=[mirrored("own", np.eye(4))])], **bad)


def test_fewer_directions_than_k_are_refused():
    with pytest.raises(ValueError, match="2 directions for 8 atoms are fewer than k=4"):
        scored(np.eye(8), How(4, 0.25, 1, 8, 1e-3), 0)
