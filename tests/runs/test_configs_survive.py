"""A sweep over any field is trained, evaluated, restored, exported and reported as it was given."""

import numpy as np
import pytest

from dictlearn import interop, report, restore
from dictlearn.evaluate import evaluate
from dictlearn.experiment import values
from dictlearn.runs.places import read_config
from dictlearn.runs.trained import restore_run
from dictlearn.runs.workdir import read_records
from dictlearn.train import train

INF = float("inf")
SWEPT = {
    "tuples": ({}, {"prefixes": ((8, 32), (16, 32)), "ema_decay": (None,), "seed": [1]}),
    "words": (
        {"prefixes": [8, 32]},
        {"activation": ["topk", "batch_topk"], "clip_norm": (INF,), "unit_norm": (False,)},
    ),
}


def tiny(tmp_path, dictionary, sweep) -> dict:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(200, 8)).astype("f4"))
    return {
        "seed": 0,
        "steps": 2,
        "batch_size": 16,
        "stream": {"name": "npy", "path": tmp_path / "x.npy"},
        "dictionary": {"name": "matryoshka", "n_latents": 32, "k": 3, **dictionary},
        "objective": {"name": "fvu"},
        "rule": {"name": "adam", "lr": 1e-3},
        "sweep": sweep,
        "evaluate": {"n_tokens": 16},
    }


@pytest.mark.parametrize("kind", SWEPT)
def test_a_sweep_over_any_field_survives_the_disk(kind, tmp_path):
    config, workdir = tiny(tmp_path, *SWEPT[kind]), tmp_path / "run"
    train(config, workdir)
    records = evaluate(config, workdir)
    given = values.settled(config)
    assert read_config(workdir) == restore_run(workdir).config == given
    assert read_records(workdir / "metrics.json") == records
    assert records.keys() == {one.name for one in restore(workdir)}
    files = interop.export(workdir, "npz", tmp_path / "out")
    x_BD = np.load(tmp_path / "x.npy")[:4]
    for one in restore(workdir):
        assert records[one.name]["hparams"] == one.hparams
        (file,) = [file for file in files if file.name == f"{one.name}.npz"]
        loaded = interop.load(file)
        assert loaded.hparams == one.hparams
        np.testing.assert_allclose(
            loaded.reconstruct(x_BD), one.reconstruct(x_BD), rtol=1e-4, atol=1e-5
        )
    assert report.write(given, workdir).is_file()
    train({**config, "steps": 3}, workdir)
    assert restore_run(workdir).step == 3
