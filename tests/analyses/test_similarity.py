"""ITDA through the command line: trained, resumed, measured, exported, and compared by its keys."""

import json
import re
import shutil

import numpy as np
import pytest

from dictlearn import analyses, cli, restore
from dictlearn.analyses.similarity import keys
from dictlearn.train import train

RANDOM = np.random.default_rng(0)
ATOMS = RANDOM.standard_normal((40, 12))
CODES = (RANDOM.random((1000, 40)) < 0.06) * RANDOM.uniform(0.5, 1.5, (1000, 40))
CODES[np.arange(1000), RANDOM.integers(0, 40, 1000)] += 1
LAYERS = {"resid.2": CODES @ ATOMS, "resid.10": np.tanh(CODES @ ATOMS) @ ATOMS[:12]}
TURN = np.linalg.qr(RANDOM.standard_normal((12, 12)))[0]
CONFIG = """
from ml_collections import ConfigDict
def get_config(arg=""):
    return ConfigDict({config!r})
"""


def config(path, **changes):
    return {
        "seed": 0,
        "steps": 6,
        "batch_size": 64,
        "log_every": 2,
        "checkpoint_every": 3,
        "stream": {"name": "npy", "path": str(path), "normalise": "unit_mean_sq"},
        "dictionary": {"name": "itda", "n_latents": 256, "k": 3},
        "learner": {"name": "itda"},
        "sweep": {"tolerance": (0.1, 0.3)},
        "evaluate": {"n_tokens": 64},
        **changes,
    }


def similarity(*subjects):
    return analyses.run("similarity", subjects).values


@pytest.fixture(scope="module")
def sides(tmp_path_factory):
    """Two folders of a run a layer: one of activations, one of the same ones turned."""
    folder = tmp_path_factory.mktemp("sides")
    for side, turn in (("a", np.eye(12)), ("b", TURN)):
        for layer, x in LAYERS.items():
            array = folder / f"{side}-{layer}.npy"
            np.save(array, (x @ turn).astype(np.float32))
            file = folder / f"{side}-{layer}.py"
            file.write_text(CONFIG.format(config=config(array)))
            workdir = folder / side / layer
            if layer == "resid.2":
                assert cli.main(["train", f"--config={file}", f"--workdir={workdir}"]) == 0
            else:
                train(config(array), workdir)
    return folder


def test_dictionaries_of_turned_activations_have_the_same_keys_and_other_atoms(sides, capsys):
    a, b = sides / "a" / "resid.2", sides / "b" / "resid.2"
    argv = ["analyse", "similarity", str(a), str(b), f"--workdir={sides / 'out'}"]
    assert cli.main(argv) == 0
    assert "similarity.svg" in capsys.readouterr().out
    kept = sides / "out" / "analyses"
    found = json.loads((kept / "similarity.json").read_text())["values"]
    jaccard = np.array(found["measures"]["jaccard"])
    assert found["names"] == [["itda_n256_0", "itda_n256_1"]] * 2
    np.testing.assert_array_equal(np.diag(jaccard), 1)
    assert jaccard[0, 1] == jaccard[1, 0] < 0.9
    chance, turned = (found["measures"][m][0][0] for m in ("mmcs_ab_by_chance", "mmcs_ab"))
    assert abs(turned - chance) < 0.1
    assert similarity(a, a)["measures"]["one_to_one"][0][0] == pytest.approx(1, abs=1e-6)
    assert similarity(a, a)["measures"]["shared"][1][1] == 1
    assert "<svg" in (kept / "similarity.svg").read_text()


def test_layers_are_matched_by_their_keys_and_by_every_other_measure(sides):
    found = similarity(sides / "a", sides / "b")
    assert found["names"] == [["resid.2", "resid.10"]] * 2
    assert found["scores"] == dict.fromkeys(("jaccard", "cka", "svcca", "relative"), 1.0)
    for rows in found["measures"].values():
        np.testing.assert_allclose(np.diag(rows), 1, atol=1e-5)
        assert rows[0][1] < 0.95
    assert found["union_jaccard"] == 1
    assert found["n_tokens"] == 384


def test_a_run_that_was_stopped_and_went_on_is_the_one_that_was_not_keys_included(sides, tmp_path):
    shutil.copytree(sides / "a" / "resid.2", tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "6")
    train(config(sides / "a-resid.2.npy"), tmp_path / "run")
    for mine, whole in zip(
        restore(tmp_path / "run"), restore(sides / "a" / "resid.2"), strict=True
    ):
        for kind in ("params", "stats"):
            for leaf, values in whole.variables[kind].items():
                np.testing.assert_array_equal(mine.variables[kind][leaf], values)
        assert len(keys(mine.variables)) == mine.variables["stats"]["n_atoms"] > 64


def test_it_is_measured_reported_and_exported_with_its_keys(sides, tmp_path):
    workdir = sides / "a" / "resid.2"
    metrics = json.loads((workdir / "metrics.json").read_text())
    explained = [metrics[f"itda_n256_{i}"]["explained_variance"] for i in (0, 1)]
    assert 1 > explained[0] > explained[1] > 0.5
    assert cli.main(["report", f"--workdir={workdir}"]) == 0
    assert cli.main(["export", f"--workdir={workdir}", f"--out={tmp_path}"]) == 0
    index = json.loads((tmp_path / "index.json").read_text())
    assert index["itda_n256_1.npz"]["learner"]["tolerance"] == pytest.approx(0.3)
    assert index["itda_n256_1.npz"]["encoder_input"] == "x"
    first = restore(workdir)[0]
    with np.load(tmp_path / "itda_n256_0.npz") as arrays:
        n = arrays["stats/n_atoms"]
        tokens = LAYERS["resid.2"][arrays["stats/position_F"][:n]]
        unit = tokens / np.linalg.norm(tokens, axis=1)[:, None]
        np.testing.assert_allclose(arrays["params/W_dec_FD"][:n], unit, atol=1e-5)
        x = tokens.astype(np.float32)
    np.testing.assert_allclose(first.reconstruct(x), x, atol=1e-4)
    assert similarity(workdir, tmp_path)["measures"]["jaccard"] == [
        [1.0, pytest.approx(similarity(workdir, workdir)["measures"]["jaccard"][0][1])],
        [pytest.approx(similarity(workdir, workdir)["measures"]["jaccard"][1][0]), 1.0],
    ]


def test_what_cannot_be_compared_says_why(sides, tmp_path, capsys):
    a = sides / "a"
    with pytest.raises(ValueError, match=re.escape(str(a / "resid.2"))):
        similarity(a, a / "resid.2")
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path))):
        similarity(tmp_path, tmp_path)
    assert cli.main(["analyse", "similarity", str(a)]) == 1
    assert re.search(r"\b2\b.*\b1\b", capsys.readouterr().err)
    shutil.copytree(a, tmp_path / "b")
    kept = tmp_path / "b" / "resid.2" / "config.json"
    kept.write_text(kept.read_text().replace('"seed": 0', '"seed": 1'))
    with pytest.raises(ValueError, match=r"resid\.2"):
        similarity(a, tmp_path / "b")
