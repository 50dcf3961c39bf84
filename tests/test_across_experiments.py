"""The experiments over layers and over time: their configs are read whole, and a series follows what turns."""

import numpy as np
import pytest

from dictlearn import experiment
from dictlearn.ops.cosine import nearest
from dictlearn.runs.trained import restore
from dictlearn.streams.synthetic import draw, plant
from experiments import layer_groups, sae_track
from tests.helpers import planted_config


@pytest.mark.parametrize("module", [layer_groups, sae_track])
def test_the_experiments_are_configs_that_are_read_whole(module):
    for size in module.SIZES:
        experiment.check(module.get_config(size).to_dict())
    with pytest.raises(ValueError, match=r"'huge'.*smoke, small"):
        module.get_config("huge")


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


def config_of(path, **changes):
    stream = {"name": "npy", "path": str(path), "block_rows": 8, "held_out": 0.1}
    config = planted_config("topk", steps=300, batch_size=256, rule={"lr": 4e-3}, **changes)
    return {**config, "stream": stream, "dictionary": {"name": "topk", "n_latents": 96, "k": 3}}


def test_a_series_keeps_its_latents_while_features_turn_and_the_first_dictionary_loses_them(
    tmp_path,
):
    last, found, planted = None, [], []
    for t, (path, atoms) in enumerate(turning(tmp_path)):
        rows = np.load(path)
        last, started = sae_track.step(config_of(path), tmp_path / f"run{t}", last, rows)
        assert started == ("warm" if t else "cold")
        (dictionary,) = restore(last)
        found.append(np.asarray(dictionary.variables["params"]["W_dec_FD"]))
        planted.append(atoms)
    cosine, latent = map(np.asarray, nearest(planted[0], found[0]))
    known = cosine > 0.95
    assert known.mean() > 0.9
    follow = lambda atoms, t: ((atoms[latent] * planted[t]).sum(1)[known] > 0.95).mean()
    assert follow(found[1], 1) > 0.9
    assert follow(found[0], 1) < 0.1
