"""A small run, as `dictlearn train` leaves it."""

import numpy as np
import pytest

from dictlearn.cli import main


@pytest.fixture(scope="session")
def run_of_one(tmp_path_factory):
    """The workdir of a run with one dictionary, beside the array that it was trained on."""
    folder = tmp_path_factory.mktemp("run")
    np.save(folder / "x.npy", np.random.default_rng(0).normal(size=(4096, 16)).astype("f"))
    words = [
        *(
            "train",
            f"--config=experiments/from_npy.py:{folder / 'x.npy'}",
            f"--workdir={folder / 'run'}",
        ),
        *("--config.dictionary.n_latents=32", "--config.dictionary.k=4", "--config.steps=20"),
        *("--config.batch_size=64", "--config.log_every=5", "--config.evaluate.n_tokens=128"),
    ]
    assert main(words) == 0
    return folder / "run"
