"""Analyses that read a run setting by setting, asked of dictionaries whose answer is known."""

import numpy as np
import pytest

from dictlearn import analyses, dictionaries, streams
from dictlearn.analyses import Subject
from dictlearn.runs.trained import Trained

STREAM = streams.make("synthetic", kind="p1", batch_size=64, seed=0)
ATOMS = np.asarray(STREAM.truth)
N = len(ATOMS)


def dictionary(name, atoms) -> Trained:
    """Tied, so that a latent fires where the activation lies along its atom."""
    module = dictionaries.make("relu", d_in=ATOMS.shape[1], n_latents=len(atoms), sparsity=0.1)
    params = {"W_enc_FD": atoms, "W_dec_FD": atoms}
    params |= {"b_enc_F": np.zeros(len(atoms)), "b_dec_D": np.zeros(ATOMS.shape[1])}
    return Trained(module, {"params": params}, name=name)


@pytest.fixture
def subject():
    """Two settings of two seeds: one found all atoms and half of them, the other none and all."""
    half, none = ATOMS.copy(), -ATOMS
    half[N // 2 :] *= -1
    atoms = {"a0": ATOMS, "a1": half, "b0": none, "b1": ATOMS}
    found = Subject("hand", given=[dictionary(*each) for each in atoms.items()])
    record = lambda sparsity, seed, l0: {
        "label": "m",
        "hparams": {"sparsity": sparsity, "seed": seed},
        "l0": l0,
    }
    metrics = {"a0": record(0.1, 0, 3.0), "a1": record(0.1, 1, 5.0)}
    metrics |= {"b0": record(0.2, 0, 1.0), "b1": record(0.2, 1, 2.0)}
    found.__dict__.update(metrics=metrics, stream=STREAM, config={"batch_size": 64})
    return found


def test_recovery_is_the_mean_over_the_seeds_of_a_setting(subject):
    rows = analyses.run("recovery", [subject], at=(0.9,)).values["settings"]
    assert [row["setting"] for row in rows] == ["sparsity 0.1", "sparsity 0.2"]
    assert [row["seeds"] for row in rows] == [2, 2]
    assert [row["recovery_0.9"] for row in rows] == pytest.approx([0.75, 0.5], abs=0.02)
    assert [row["l0"] for row in rows] == [4.0, 1.5]


def test_consistency_is_the_share_that_every_other_seed_of_a_setting_has(subject):
    rows = analyses.run("consistency", [subject], shares=(1.0,), n_tokens=512).values["settings"]
    assert [row["setting"] for row in rows] == ["sparsity 0.1", "sparsity 0.2"]
    assert rows[0]["top_1.0"] == pytest.approx(0.5, abs=0.1)
    assert rows[1]["top_1.0"] == pytest.approx(0.0, abs=0.02)
