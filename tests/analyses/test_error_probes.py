"""Probes on the parts of an activation, of which it is known what each part tells."""

import json

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from dictlearn import analyses, dictionaries
from dictlearn.analyses import Subject
from dictlearn.ops.softmax_probe import none, softmax
from dictlearn.runs.trained import Trained
from tests.helpers import planted_config

WIDTH, N, SEEN = 16, 1200, 8


def half(name) -> Trained:
    """A dictionary of the first `SEEN` dimensions and their negatives: the error is the other dimensions."""
    eye = np.eye(SEEN, WIDTH)
    atoms = np.concatenate([eye, -eye]).astype("f")
    module = dictionaries.make("relu", d_in=WIDTH, n_latents=2 * SEEN, sparsity=0.1)
    params = {"W_enc_FD": atoms, "W_dec_FD": atoms}
    params |= {"b_enc_F": np.zeros(2 * SEEN, "f"), "b_dec_D": np.zeros(WIDTH, "f")}
    return Trained(module, {"params": params}, name=name)


@pytest.fixture
def subject(tmp_path):
    """Rows of four kinds, which dimensions 0 and 1 tell, and of three others, which dimensions 8 and 9 tell."""
    random = np.random.default_rng(0)
    x_ND = 0.3 * random.normal(size=(N, WIDTH)).astype("f")
    kept, missed = random.integers(4, size=N), random.integers(3, size=N)
    x_ND[:, 0:2] += np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]])[kept]
    x_ND[:, 8:10] += np.array([[1, 0], [-1, 1], [-1, -1]])[missed]
    np.save(tmp_path / "x.npy", x_ND)
    given = {"kept": kept.tolist(), "missed": missed.tolist(), "one": [0] * N}
    (tmp_path / "labels.json").write_text(json.dumps(given))
    stream = {"name": "npy", "path": str(tmp_path / "x.npy"), "held_out": 0.25}
    setup = {**planted_config(batch_size=64), "stream": stream}
    return Subject("hand", given=[half("half")], setup=setup)


def accuracy(subject, key, **settings) -> dict[str, float]:
    found = analyses.run("error_probes", [subject], key=key, **settings).values
    assert found["tests"] == N // 4
    for row in found["rows"]:
        assert row["low"] < row["accuracy"] <= row["high"]
        assert row["high"] - row["low"] < 0.13
    return {row["part"]: row["accuracy"] for row in found["rows"]} | {"chance": found["by_chance"]}


def test_a_label_is_in_the_part_of_the_activation_that_was_planted_to_tell_it(subject):
    """Of the other label, which the other half of the dimensions tells, the same part knows nothing."""
    kept, missed = accuracy(subject, "kept"), accuracy(subject, "missed")
    for told, silent, found in (
        (("activation", "codes", "reconstruction"), ("error",), kept),
        (("activation", "error"), ("codes", "reconstruction"), missed),
    ):
        assert min(found[part] for part in told) > 0.95
        assert max(found[part] for part in silent) < found["chance"] + 0.1
    assert set(accuracy(subject, "missed", parts=("error",))) == {"error", "chance"}


def test_a_probe_is_measured_on_rows_that_it_was_not_fitted_to(subject, tmp_path):
    """The error of as many dimensions as rows tells labels drawn at random, on the rows that were fitted."""
    random = np.random.default_rng(1)
    labels = {"class": random.integers(2, size=N).tolist()}
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    found = accuracy(subject, "class")
    assert max(found.values()) < 0.6
    x_ND = random.normal(size=(60, 64)).astype("f")
    class_N = np.array(labels["class"][:60])
    probe = softmax(x_ND, class_N, 100.0, none(2, 64))
    assert (probe.logits(x_ND).argmax(1) == class_N).all()


@pytest.mark.parametrize("c", [0.01, 1.0])
def test_the_probe_is_the_optimum_of_scikit_learn(c):
    random = np.random.default_rng(0)
    x_ND = random.normal(size=(300, 10)).astype("f")
    class_N = (x_ND[:, :3] + random.normal(size=(300, 3))).argmax(1)
    found = softmax(x_ND, class_N, c, none(3, 10))
    theirs = LogisticRegression(C=c, tol=1e-8, max_iter=1000).fit(x_ND, class_N)
    np.testing.assert_allclose(found.W_CD, theirs.coef_, atol=2e-3)
    centred = lambda b_C: b_C - b_C.mean()
    np.testing.assert_allclose(centred(found.b_C), centred(theirs.intercept_), atol=2e-3)
    other = LogisticRegression(C=4 * c, tol=1e-8, max_iter=1000).fit(x_ND, class_N)
    assert abs(found.W_CD - other.coef_).max() > 0.02


@pytest.mark.parametrize(
    ("key", "settings", "told"),
    [("one", {}, "label '0'"), ("kept", {"parts": ("rest",)}, "rest"), ("none", {}, "none")],
)
def test_what_cannot_be_probed_is_refused(subject, key, settings, told):
    with pytest.raises(ValueError, match=told):
        analyses.run("error_probes", [subject], key=key, **settings)


def test_the_error_of_a_transcoder_is_no_part_of_what_it_reads(subject):
    module = dictionaries.make("relu", d_in=WIDTH, d_out=4, n_latents=4, sparsity=0.1)
    transcoder = Subject("x", given=[Trained(module, {}, name="t")], setup=subject.setup)
    with pytest.raises(ValueError, match="transcoder"):
        analyses.run("error_probes", [transcoder], key="kept")
