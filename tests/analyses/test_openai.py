"""Probe loss and ablation sparsity where they are known."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn import analyses, dictionaries
from dictlearn.analyses import Subject
from dictlearn.analyses.ablation_sparsity import spread
from dictlearn.runs.places import read_config
from dictlearn.runs.trained import Trained
from tests.helpers import planted_config


def identity(name, width, turn=None) -> Trained:
    """A ReLU dictionary of the dimensions and their negatives, whose latents may be turned."""
    turn = np.eye(width) if turn is None else turn
    atoms = np.concatenate([turn, -turn]).astype("f")
    module = dictionaries.make("relu", d_in=width, n_latents=2 * width, sparsity=0.1)
    params = {"W_enc_FD": atoms, "W_dec_FD": atoms}
    params |= {"b_enc_F": np.zeros(2 * width, "f"), "b_dec_D": np.zeros(width, "f")}
    return Trained(module, {"params": params}, name=name)


def test_spread_of_one_entry_of_equal_ones_and_of_a_gaussian():
    """T-K3 of the specification."""
    one = np.zeros((4, 50), "f")
    one[2, 7] = -3.0
    assert spread(jnp.asarray(one)) == pytest.approx(1 / 200)
    signs = np.random.default_rng(0).choice([-2.0, 2.0], size=(4, 50)).astype("f")
    assert spread(jnp.asarray(signs)) == pytest.approx(1)
    normal = np.random.default_rng(0).normal(size=(16, 8000)).astype("f")
    assert spread(jnp.asarray(normal)) == pytest.approx(2 / np.pi, abs=0.01)
    assert spread(jnp.asarray(1e-25 * normal)) == pytest.approx(2 / np.pi, abs=0.01)


def test_latents_that_are_dimensions_are_as_sparse_as_dimensions(spoken):
    config = read_config(spoken)
    subject = Subject("hand", given=[identity("same", 12)], setup=config)
    rows = analyses.run("ablation_sparsity", [subject], n=400).values["rows"]
    of = {row["of"]: row["sparsity"] for row in rows}
    assert of["same"] == pytest.approx(of["single dimensions"], rel=0.1)
    assert {row["of"]: row["drawn"] for row in rows} == {"same": 24, "single dimensions": 400}
    with pytest.raises(ValueError, match="window=24"):
        analyses.run("ablation_sparsity", [subject], window=24)


@pytest.fixture
def labelled(tmp_path):
    """Rows of 16 dimensions of which dimension 3 is the label with noise, and the file of labels."""
    random = np.random.default_rng(0)
    kind = random.random(800) < 0.5
    x_BD = random.normal(size=(800, 16)).astype("f")
    x_BD[:, 3] = 2.0 * kind - 1 + 0.3 * x_BD[:, 3]
    np.save(tmp_path / "x.npy", x_BD)
    names = np.where(kind, "yes", "no").tolist()
    (tmp_path / "labels.json").write_text(json.dumps({"class": names, "few": ["one"] * 800}))
    stream = {"name": "npy", "path": str(tmp_path / "x.npy")}
    turned = np.linalg.qr(random.normal(size=(16, 16)))[0]
    given = [identity("same", 16), identity("turned", 16, turned)]
    setup = {**planted_config(batch_size=64), "stream": stream}
    return Subject("hand", given=given, setup=setup)


def test_a_latent_of_the_label_has_no_probe_loss_and_mixed_latents_have(labelled):
    rows = analyses.run("probe_loss", [labelled]).values["rows"]
    loss = {row["name"]: row["probe_loss"] for row in rows}
    assert loss["same"] < 0.05
    assert loss["same"] == pytest.approx(loss["best dimension"], abs=1e-4)
    assert loss["turned"] > 5 * loss["same"]
    assert loss["no probe"] == pytest.approx(np.log(2), abs=0.01)
    assert rows[0]["tasks"]["yes"]["latent"] % 16 == 3


@pytest.mark.parametrize("key", ["few", "none"])
def test_labels_that_make_no_task_are_refused(labelled, key):
    with pytest.raises(ValueError, match=key if key == "none" else "no label"):
        analyses.run("probe_loss", [labelled], key=key)


def test_texts_are_told_apart_through_the_model(spoken, tmp_path):
    texts = ["the café " * 6, "Ω & Ω & " * 6]
    lines = [json.dumps({"text": texts[i % 2] + str(i), "label": f"k{i % 2}"}) for i in range(64)]
    (tmp_path / "texts.jsonl").write_text("\n".join(lines))
    subject = Subject("hand", given=[identity("same", 12)], setup=read_config(spoken))
    settings = {"texts": str(tmp_path / "texts.jsonl"), "length": 12}
    rows = analyses.run("probe_loss", [subject], **settings).values["rows"]
    assert rows[0]["probe_loss"] < 0.1 < rows[-1]["probe_loss"]
    (tmp_path / "texts.jsonl").write_text('{"text": "no label"}')
    with pytest.raises(ValueError, match="line 1"):
        analyses.run("probe_loss", [subject], **settings)
