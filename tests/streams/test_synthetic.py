"""Planted sets have the statistics they claim."""

import numpy as np
import pytest

from dictlearn import streams
from dictlearn.streams.synthetic import draw, plant

KINDS = ("p1", "p2", "p3", "p4", "p5", "p6")
TOKENS = 20_000


def sample(kind, tokens=TOKENS, step=0, **sizes):
    planted = plant(kind, seed=0, **sizes)
    return planted, *draw(planted, tokens, step)


@pytest.mark.parametrize("kind", KINDS)
def test_atoms_have_unit_norm(kind):
    atoms = plant(kind, seed=3).atoms_ND
    np.testing.assert_allclose(np.linalg.norm(atoms, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "shape", "sparsity", "noise"),
    [
        ("p1", (64, 32), 3, 0.01),
        ("p2", (64, 32), 3, 0.01),
        ("p3", (12, 20), 1.575, 0),
        ("p4", (200, 100), 5, 0.1),
        ("p5", (64, 32), 3, 0),
        ("p6", (128, 42), 11.5, 0),
    ],
)
def test_the_default_sizes_and_what_they_mean(kind, shape, sparsity, noise):
    planted, x, codes = sample(kind)
    assert planted.atoms_ND.shape == shape
    assert (codes != 0).sum(1).mean() == pytest.approx(sparsity, abs=0.05)
    assert (x - codes @ planted.atoms_ND).std() == pytest.approx(noise, rel=0.02, abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_given_sizes_mean_the_same(kind):
    s = 11.5 if kind == "p6" else 2
    planted, x, codes = sample(kind, d_in=30, n_features=24, sparsity=s, noise=0.3)
    assert planted.atoms_ND.shape == (24, 30)
    assert (codes != 0).sum(1).mean() == pytest.approx(s, abs=0.05)
    assert (x - codes @ planted.atoms_ND).std() == pytest.approx(0.3, rel=0.02)


def test_p1_features_are_independent_with_uniform_coefficients():
    _, _, codes = sample("p1")
    on = codes != 0
    values = codes[on]
    assert 0.5 <= values.min() < 0.51 < 1.49 < values.max() <= 1.5
    assert values.mean() == pytest.approx(1, abs=0.01)
    np.testing.assert_allclose(on.mean(0), 3 / 64, atol=5 * np.sqrt(3 / 64 / TOKENS))
    # Independent draws: the variance of L0 is the sum of p (1 - p).
    assert on.sum(1).var() == pytest.approx(3 * (1 - 3 / 64), rel=0.05)


@pytest.mark.parametrize("sparsity", [3, 12])
def test_p2_follows_zipf_under_its_cap(sparsity):
    _, _, codes = sample("p2", sparsity=sparsity)
    p = (codes != 0).mean(0)
    free = np.arange(64) if sparsity == 3 else np.arange(8, 64)
    share = p[free] * (free + 1)
    assert p.sum() == pytest.approx(sparsity, abs=0.1)
    assert p.max() <= 0.9 + 0.01
    assert share[:8] == pytest.approx(np.full(8, share.mean()), rel=0.1)
    assert (p[0] > 0.88) == (sparsity == 12)


def test_p3_children_need_their_parent_and_exclude_each_other():
    planted, _, codes = sample("p3")
    assert set(np.unique(codes)) == {0, 1}
    parent, child = codes[:, :3], codes[:, 3:].reshape(-1, 3, 3)
    assert (child.sum(2) <= parent).all()
    assert parent.mean(0) == pytest.approx(np.full(3, 0.3), abs=0.02)
    given = child.sum(0) / parent.sum(0)[:, None]
    np.testing.assert_allclose(given, 0.25, atol=0.03)
    np.testing.assert_allclose(planted.atoms_ND @ planted.atoms_ND.T, np.eye(12), atol=1e-6)


def test_p4_has_exactly_k_features_and_unit_codes():
    _, _, codes = sample("p4")
    assert ((codes != 0).sum(1) == 5).all()
    np.testing.assert_allclose(np.linalg.norm(codes, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose((codes != 0).mean(0), 5 / 200, atol=0.006)
    assert (codes[codes != 0] > 0).mean() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(("kind", "numbers"), [("p5", [3]), ("p6", [3, 20])])
def test_p5_and_p6_have_positive_codes_and_exact_numbers_of_features(kind, numbers):
    _, _, codes = sample(kind)
    on = (codes != 0).sum(1)
    np.testing.assert_array_equal(on, np.resize(numbers, TOKENS))
    assert codes.min() == 0
    scaled = (codes * np.sqrt(on)[:, None])[codes != 0]
    assert 0.5 <= scaled.min() < 0.51 < 1.49 < scaled.max() <= 1.5001
    density = np.mean(numbers) / codes.shape[1]
    np.testing.assert_allclose((codes != 0).mean(0), density, rtol=0.15)


@pytest.mark.parametrize("kind", KINDS)
def test_the_codes_belong_to_the_batches_of_the_stream(kind):
    stream = streams.make("synthetic", kind=kind, batch_size=64, seed=5)
    planted = plant(kind, seed=5)
    for step in (0, 9):
        x, _ = draw(planted, 64, step)
        np.testing.assert_array_equal(stream.batches[step].x_BD, x)
    np.testing.assert_array_equal(stream.truth, planted.atoms_ND)
    assert stream.n_rows is None


def test_a_normalised_stream_is_scaled_alike_on_every_process():
    ends = [
        streams.make(
            "synthetic", batch_size=512, seed=0, normalise="mean_norm_sqrt_d", process=(i, 2)
        )
        for i in range(2)
    ]
    assert ends[0].norm == ends[1].norm
    norms = np.linalg.norm(np.concatenate([end.batches[7].x_BD for end in ends]), axis=1)
    assert norms.mean() == pytest.approx(np.sqrt(32), rel=0.1)


@pytest.mark.parametrize(
    ("sizes", "match"),
    [
        ({"kind": "p9"}, "p9.*p1, p2, p3, p4"),
        ({"kind": "p1", "sparsity": 65}, "exceeds 64"),
        ({"kind": "p2", "sparsity": 60}, "exceeds 57.6"),
        ({"kind": "p3", "n_features": 10}, "multiple of 4"),
        ({"kind": "p3", "n_features": 24}, "at most d_in=20"),
        ({"kind": "p3", "sparsity": 6}, "exceeds 5.25"),
        ({"kind": "p4", "sparsity": 2.5}, "whole number"),
        ({"kind": "p4", "sparsity": 201}, "at most n_features=200"),
        ({"kind": "p6", "sparsity": 12}, "whole numbers.*3.13, 20.87"),
        ({"kind": "p1", "d_in": 0}, "must be positive"),
    ],
)
def test_impossible_sizes_are_refused(sizes, match):
    with pytest.raises(ValueError, match=match):
        streams.make("synthetic", batch_size=8, seed=0, **sizes)


def test_a_negative_noise_is_refused():
    with pytest.raises(ValueError, match="noise"):
        plant("p1", seed=0, noise=-1)
