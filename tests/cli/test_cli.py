"""The command line: every verb on small real work, and one line for whatever is wrong."""

import json
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from dictlearn import cli, dense, restore
from dictlearn.cli.verbs import VERBS

ROOT = Path(__file__).parents[2]


@pytest.fixture
def array(tmp_path):
    """A planted `[N, D]` array on disk."""
    random = np.random.default_rng(0)
    atoms = random.normal(size=(64, 24))
    codes = (random.random((4000, 64)) < 0.05) * random.uniform(0.5, 1.5, (4000, 64))
    path = tmp_path / "x.npy"
    np.save(path, (codes @ atoms).astype(np.float32))
    return path


def config(path):
    return f"--config={ROOT / 'experiments' / 'from_npy.py'}:smoke,{path}"


def says(capsys, *argv) -> str:
    """The one line of an error of a verb that fails."""
    assert cli.main(argv) == 1
    err = capsys.readouterr().err.strip()
    assert "\n" not in err
    assert err.startswith(f"dictlearn {argv[0]}: error: ")
    return err


def test_train_eval_and_export_on_an_array_of_ones_own(array, tmp_path, capsys):
    workdir, out = tmp_path / "run", tmp_path / "out"
    argv = ["train", config(array), f"--workdir={workdir}"]
    assert cli.main([*argv, "--config.sweep.k=(4, 8)", "--config.rule.b1=0.8"]) == 0
    for name in ("config.json", "metrics.jsonl", "metrics.json", "timing.json", "checkpoints"):
        assert (workdir / name).exists()
    kept = json.loads((workdir / "config.json").read_text())
    assert kept["sweep"]["k"] == [4, 8]
    assert kept["rule"]["b1"] == 0.8
    metrics = json.loads((workdir / "metrics.json").read_text())
    assert metrics.keys() == {"topk_n128_0", "topk_n128_1"}
    for record in metrics.values():
        assert {"explained_variance", "l0", "dead_fraction"} <= record.keys()
    evs = [record["explained_variance"] for record in metrics.values()]
    assert 0.1 < evs[0] < evs[1] < 1
    before = (workdir / "metrics.json").read_text()
    assert cli.main(["eval", f"--workdir={workdir}"]) == 0
    assert (workdir / "metrics.json").read_text() == before
    assert cli.main(["export", f"--workdir={workdir}", "--format=npz", f"--out={out}"]) == 0
    index = json.loads((out / "index.json").read_text())
    assert index["topk_n128_1.npz"]["dictionary"]["k"] == 8
    same_function(workdir, out, np.load(array)[:50])


def same_function(workdir, out, x):
    """Exported arrays compute on raw activations what the restored dictionaries do."""
    for dictionary in restore(workdir):
        files = np.load(out / f"{dictionary.name}.npz", allow_pickle=False)
        assert files["W_enc"].shape == (24, 128)
        assert files["W_dec"].shape == (128, 24)
        pre = (x - files["b_dec"]) @ files["W_enc"] + files["b_enc"]
        kth = np.sort(pre, 1)[:, -dictionary.hparams["dictionary"]["k"], None]
        f = np.maximum(pre, 0) * (pre >= kth)
        y = f @ files["W_dec"] + files["b_dec"]
        np.testing.assert_allclose(y, dictionary.reconstruct(x), rtol=1e-4, atol=1e-4)
        found = np.asarray(dense(dictionary.encode(jax.numpy.asarray(x)), 128))
        np.testing.assert_array_equal(found != 0, f != 0)


def test_a_batch_topk_export_carries_its_threshold(array, tmp_path):
    workdir, out = tmp_path / "run", tmp_path / "out"
    argv = ["train", f"{config(array)},kind=batch_topk,l0=4", f"--workdir={workdir}"]
    assert cli.main(argv) == 0
    assert cli.main(["export", f"--workdir={workdir}", f"--out={out}"]) == 0
    files = np.load(out / "batch_topk_n128_0.npz", allow_pickle=False)
    x = np.load(array)[:50]
    pre = (x - files["b_dec"]) @ files["W_enc"] + files["b_enc"]
    assert files["threshold"] > 0
    y = np.maximum(pre, 0) * (pre > files["threshold"]) @ files["W_dec"] + files["b_dec"]
    (dictionary,) = restore(workdir)
    np.testing.assert_allclose(y, dictionary.reconstruct(x), rtol=1e-4, atol=1e-4)


def test_a_pair_of_arrays_trains_and_exports_a_transcoder(array, tmp_path):
    x = np.load(array)
    np.save(tmp_path / "y.npy", x[:, :10] ** 2)
    workdir, out = tmp_path / "run", tmp_path / "out"
    target = f"--config.stream.target_path={tmp_path / 'y.npy'}"
    assert cli.main(["train", config(array), f"--workdir={workdir}", target]) == 0
    assert cli.main(["export", f"--workdir={workdir}", f"--out={out}"]) == 0
    assert json.loads((out / "index.json").read_text())["topk_n128_0.npz"]["encoder_input"] == "x"
    for dictionary in restore(workdir):
        files = np.load(out / f"{dictionary.name}.npz", allow_pickle=False)
        assert files["W_dec"].shape == (128, 10)
        pre = x[:50] @ files["W_enc"] + files["b_enc"]
        kth = np.sort(pre, 1)[:, -dictionary.hparams["dictionary"]["k"], None]
        y = np.maximum(pre, 0) * (pre >= kth) @ files["W_dec"] + files["b_dec"]
        np.testing.assert_allclose(y, dictionary.reconstruct(x[:50]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("--config.stepz=3", r"config has no 'stepz'.* seed, steps, batch_size"),
        (
            "--config.dictionary.latents=3",
            r"config.dictionary has no 'latents'.* name, n_lat",
        ),
        ("--config.dictionary.name=topp", r"'topp'.* topk"),
        ("--config.objective.name=mse", r"'mse'.* squared_error"),
        ("--config.rule.name=adma", r"'adma'.* adam"),
        ("--config.rule.rate=1", r"config.rule has no 'rate'.* name, lr"),
        ("--config.learner.dead=1", r"config.learner has no 'dead'.* name, dead_after"),
        (
            "--config.sweep.k=(8,) --config.sweep.dictionary.k=(4,)",
            "sweep.dictionary.k and sweep.k",
        ),
        ("--config.sweep.rule.rate=(4,)", "sweep.rule.rate"),
        (
            "--config.sweep.kk=(1, 2)",
            r"sweep.kk .* seed, steps, dictionary.n_latents",
        ),
        (
            "--config.stream.name=zarr",
            r"'zarr'.* from_lm, npy",
        ),
        ("--config.stream.pth=x", r"npy has no argument 'pth'.*'path'"),
        ("--config.steps=many", "invalid literal for int"),
        ("--config.batch_size=0", "config.batch_size=0 must be a positive integer"),
        ("--config.batch_size=100000", "batch_size=100000 exceeds"),
        ("--config.sweep.k=(400,)", "k_max=400"),
        ("--config.mesh.data=3", "mesh sweep=1 x data=3 x model=1 is 3 devices, but there are 8"),
        ("--config.evaluate.tokens=3", r"config.evaluate has no 'tokens'.* n_tokens"),
        ("--config.mesh.datum=3", r"config.mesh has no 'datum'.* sweep, data, model"),
        ("--config.model.nam=x", r"config.model has no 'nam'.* name, path"),
        ("--config.mash.data=3", "config has no 'mash'; it takes seed"),
    ],
)
def test_a_mistyped_key_or_name_is_answered_with_what_there_is(
    array, tmp_path, capsys, change, message
):
    workdir, changes = tmp_path / "run", re.split(" (?=--)", change)
    assert re.search(
        message, says(capsys, "train", config(array), f"--workdir={workdir}", *changes)
    )
    assert not (workdir / "config.json").exists()


def test_bad_arrays_are_named_and_nothing_is_written_over(array, tmp_path, capsys):
    workdir = tmp_path / "run"
    argv = ("train", config(array), f"--workdir={workdir}")
    assert cli.main(argv) == 0
    capsys.readouterr()
    before = {p: p.read_bytes() for p in workdir.rglob("*") if p.is_file()}
    x = np.load(array)
    x[17, 3] = np.nan
    np.save(array, x)
    assert "row 17, column 3" in says(capsys, *argv)
    np.save(array, x[0])
    assert "has shape (24,)" in says(capsys, *argv)
    array.unlink()
    assert f"There is no array at {array}" in says(capsys, *argv)
    assert {p: p.read_bytes() for p in workdir.rglob("*") if p.is_file()} == before


def test_a_wrong_width_is_told(array, tmp_path, capsys):
    argv = ("train", config(array), f"--workdir={tmp_path / 'run'}", "--config.stream.d_in=25")
    assert "is 24 wide, and d_in=25 was asked for" in says(capsys, *argv)


def test_missing_things_are_named_with_the_command_that_makes_them(tmp_path, capsys):
    missing = f"--workdir={tmp_path / 'none'}"
    assert "`dictlearn train`" in says(capsys, "eval", missing)
    assert "`dictlearn train`" in says(capsys, "export", missing)
    assert "nope.py does not exist" in says(capsys, "train", "--config=nope.py")
    (tmp_path / "config.json").write_text("{}")
    assert "`dictlearn train`" in says(capsys, "export", f"--workdir={tmp_path}")
    assert "`dictlearn eval" in says(capsys, "fit", f"--workdir={tmp_path}")


def test_an_unknown_format_is_answered_with_those_there_are(array, tmp_path, capsys):
    workdir = tmp_path / "run"
    assert cli.main(["train", config(array), f"--workdir={workdir}"]) == 0
    capsys.readouterr()
    message = says(capsys, "export", f"--workdir={workdir}", "--format=pickle")
    assert re.search("'pickle'.* npz", message)


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help_is_everywhere(verb, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main([*filter(None, [verb]), "--help"])
    assert caught.value.code == 0
    bare = verb and VERBS[verb].bare
    assert ("--config" in capsys.readouterr().out) is not bool(bare)


def test_the_command_is_a_module_too():
    command = [sys.executable, "-m", "dictlearn.cli", "--help"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "--config" in found.stdout


def test_misuse_exits_with_2(capsys):
    for argv in (
        ["train"],
        ["fly"],
        ["export", "--config.k=1", "--workdir=x"],
        ["convert", "a", "b"],
        ["convert", "a", "b", "--to=npz", "--config.k=1"],
    ):
        with pytest.raises(SystemExit) as caught:
            cli.main(argv)
        assert caught.value.code == 2
        assert capsys.readouterr().err
