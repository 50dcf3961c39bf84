"""Latents followed over checkpoints: what drifts, and what has formed."""

import numpy as np
import pytest

from dictlearn.analyses import tracking
from dictlearn.ops.cosine import nearest
from dictlearn.runs.trained import restore
from dictlearn.streams.synthetic import draw, plant
from dictlearn.train import train
from tests.helpers import planted_config

RANDOM = np.random.default_rng(0)


def turned(rows, angle):
    """Rows turned in the plane of their first two coordinates."""
    turn = np.eye(rows.shape[1])
    turn[:2, :2] = [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
    return rows @ turn


def test_drift_is_the_cosine_with_the_last_atoms_latent_by_latent():
    plane = np.zeros((2, 6))
    plane[0, 0], plane[1, 4] = 3.0, 2.0
    found = tracking.drift([turned(plane, angle) for angle in (0.0, 0.3, 0.5)])
    np.testing.assert_allclose(found[:, 0], np.cos([0.5, 0.2, 0.0]), atol=1e-12)
    np.testing.assert_allclose(found[:, 1], 1)
    shuffled = tracking.drift([plane[::-1], plane])
    np.testing.assert_allclose(shuffled[0], 0, atol=1e-12)


def test_top_tokens_are_those_where_a_latent_is_largest():
    codes = np.zeros((9, 2))
    codes[[1, 4, 7], 0] = 3, 5, 4
    codes[[0, 8], 1] = 1, 2
    assert tracking.top_tokens(codes, 2).tolist() == [[4, 7], [8, 0]]
    with pytest.raises(ValueError, match=r"n=10 .* 9 "):
        tracking.top_tokens(codes, 10)


@pytest.mark.parametrize("measure", tracking.MEASURES)
def test_a_latent_whose_tokens_are_alike_has_formed_and_a_random_one_has_not(measure):
    rows = RANDOM.random((2000, 40)) * (RANDOM.random((2000, 40)) < 0.2)
    rows[:25, :5] += 3.0
    tokens = np.stack([np.arange(25), *(RANDOM.integers(2000, size=25) for _ in range(40))])
    found = tracking.formation(rows, tokens, np.random.default_rng(1), measure)
    assert found[0] > 0.2
    assert abs(found[1:].mean()) < 0.02
    assert np.abs(found[1:]).max() < found[0] / 2


def test_each_measure_has_its_value():
    rows = np.array([[1, 1, 0], [1, 0, 3], [0, 0, 0.0]])
    value = lambda of: of(rows[:2])
    assert value(tracking._cosine) == pytest.approx(1 / np.sqrt(2 * 10))
    assert value(tracking._jaccard) == pytest.approx(1 / 3)
    assert value(tracking._weighted_jaccard) == pytest.approx(1 / 5)


def test_impossible_requests_are_refused_by_name():
    with pytest.raises(ValueError, match=r"measure='dice'.*cosine, jaccard"):
        tracking.formation(np.ones((3, 2)), np.ones((1, 2), int), RANDOM, "dice")
    with pytest.raises(ValueError, match=r"\b1\b"):
        tracking.formation(np.ones((3, 2)), np.ones((1, 1), int), RANDOM)
    with pytest.raises(ValueError, match=r"\(2, 3\), \(3, 3\)"):
        tracking.drift([np.ones((2, 3)), np.ones((3, 3))])


def turning(folder, n=2, angle=0.4):
    """(path of the rows, planted atoms) of each of `n` checkpoints of a model that turns its features."""
    planted, random = plant("p1", seed=0), np.random.default_rng(0)
    x_BD, _ = draw(planted, 8192, 0)
    plane, _ = np.linalg.qr(random.standard_normal((32, 32)))
    series = []
    for t in range(n):
        turn = np.eye(32)
        cos, sin = np.cos(t * angle), np.sin(t * angle)
        for i in range(0, 32, 2):
            turn[i : i + 2, i : i + 2] = [[cos, -sin], [sin, cos]]
        turn = (plane @ turn @ plane.T).astype(np.float32)
        np.save(folder / f"{t}.npy", x_BD @ turn)
        series.append((folder / f"{t}.npy", planted.atoms_ND @ turn))
    return series


def config_of(path):
    stream = {"name": "npy", "path": str(path), "block_rows": 8, "held_out": 0.1}
    config = planted_config("topk", steps=300, batch_size=256, rule={"lr": 4e-3})
    return {**config, "stream": stream, "dictionary": {"name": "topk", "n_latents": 96, "k": 3}}


def test_a_series_keeps_its_latents_while_features_turn_and_the_first_dictionary_loses_them(
    tmp_path,
):
    found, planted = [], []
    for t, (path, atoms) in enumerate(turning(tmp_path)):
        changes = {"start": {"workdir": str(tmp_path / "run0")}, "steps": 60} if t else {}
        train({**config_of(path), **changes}, tmp_path / f"run{t}")
        (dictionary,) = restore(tmp_path / f"run{t}")
        found.append(np.asarray(dictionary.variables["params"]["W_dec_FD"]))
        planted.append(atoms)
    cosine, latent = map(np.asarray, nearest(planted[0], found[0]))
    known = cosine > 0.95
    assert known.mean() > 0.9
    follow = lambda atoms, t: ((atoms[latent] * planted[t]).sum(1)[known] > 0.95).mean()
    assert follow(found[1], 1) > 0.9
    assert follow(found[0], 1) < 0.1
