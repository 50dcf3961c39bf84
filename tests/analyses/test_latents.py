"""Shrinkage, stability and plausibility of dictionaries whose answer is known."""

import numpy as np
import pytest

from dictlearn import analyses
from dictlearn.analyses import Subject
from dictlearn.analyses.plausibility import identifiability
from dictlearn.runs.trained import Trained
from tests.analyses.test_openai import identity, labelled
from tests.analyses.test_settings import ATOMS, STREAM, dictionary
from tests.helpers import planted_config

__all__ = ["labelled"]


def scaled(name, factors) -> Trained:
    """The dictionary of dimensions and their negatives, whose codes are too small by these factors."""
    one = identity(name, 32)
    read = np.concatenate([factors, factors])[:, None] * one.variables["params"]["W_enc_FD"]
    params = {**one.variables["params"], "W_enc_FD": read.astype("f")}
    return Trained(one.module, {"params": params}, name=name)


def test_shrinkage_is_the_factor_that_was_taken_from_each_latent():
    factors = np.full(32, 0.8)
    factors[5] = 0.5
    setup = planted_config(batch_size=256)
    given = [scaled("whole", np.ones(32)), scaled("less", factors)]
    found = analyses.run("shrinkage", [Subject("hand", given=given, setup=setup)], n_tokens=2048)
    less, whole = found.values["rows"]
    assert less["50 %"] == pytest.approx(0.25, abs=1e-4)
    assert {each["latent"] for each in less["most"][:2]} == {5, 37}
    assert less["most"][0]["shrinkage"] == pytest.approx(1.0, abs=1e-4)
    assert 0.25 < less["together"] < 0.4
    assert whole["mean"] == pytest.approx(0, abs=1e-5)


def test_stability_is_one_for_a_permutation_and_by_chance_for_random_atoms():
    random = np.random.default_rng(0)
    order = random.permutation(len(ATOMS))
    drawn = random.normal(size=(2, *ATOMS.shape)).astype("f")
    atoms = {"a0": ATOMS, "a1": ATOMS[order], "b0": drawn[0], "b1": drawn[1]}
    subject = Subject("hand", given=[dictionary(*each) for each in atoms.items()])
    record = lambda sparsity, seed: {
        "label": "m",
        "hparams": {"sparsity": sparsity, "seed": seed},
        "l0": 3.0,
    }
    metrics = {name: record(0.1 if name[0] == "a" else 0.2, int(name[1])) for name in atoms}
    subject.__dict__.update(metrics=metrics, stream=STREAM, config={"batch_size": 64})
    same, other = analyses.run("stability", [subject], n_tokens=512).values["settings"]
    for key in ("pw_mcc", "mmcs", "shared", "shared_both"):
        assert same[key] == pytest.approx(1, abs=1e-5)
    assert other["mmcs"] == pytest.approx(other["by_chance"], rel=0.05)
    assert other["pw_mcc"] < other["mmcs"]
    assert other["shared"] < 0.1
    del metrics["a1"]
    with pytest.raises(ValueError, match="one seed"):
        analyses.run("stability", [subject])


def test_one_latent_above_a_threshold_tells_a_class():
    is_N = np.arange(400) % 2 < 1
    is_N = np.random.default_rng(0).permutation(is_N)
    z_NF = np.random.default_rng(1).random((400, 6))
    z_NF[:, 4] = np.where(is_N, 0.7, 0.2)
    assert identifiability(z_NF, is_N)[0] == 1
    assert identifiability(np.zeros((400, 2)), is_N)[0] == pytest.approx(0.5, abs=0.06)
    rare_N = np.arange(400) % 10 == 3
    assert identifiability(np.zeros((400, 2)), rare_N) == (0.8, 0.8)


def test_atoms_of_the_data_are_plausible_and_turned_ones_are_less(labelled):
    rows = {
        row["dictionary"]: row for row in analyses.run("plausibility", [labelled]).values["rows"]
    }
    same, turned = rows["same"], rows["turned"]
    assert same["plausibility"] > 0.98 > 0.8 > turned["plausibility"]
    assert same["identifiability"] > 0.98 > turned["identifiability"]
    assert same["stable_rank"] == pytest.approx(16, rel=1e-4)
    assert same["coherence"] == pytest.approx(1)
    data = np.load(labelled.config["stream"]["path"])[:32]
    near = Trained(turned_module(labelled), params(labelled, data), name="near")
    (row,) = analyses.run(
        "plausibility", [Subject("x", given=[near], setup=labelled.setup)]
    ).values["rows"]
    assert row["ood"] == pytest.approx(0, abs=1e-5)
    assert turned["ood"] > 0.1


def turned_module(subject):
    return subject.trained[1].module


def params(subject, atoms):
    """The parameters of the second dictionary, with these atoms."""
    own = subject.trained[1].variables["params"]
    return {"params": {**own, "W_dec_FD": atoms.astype("f")}}
