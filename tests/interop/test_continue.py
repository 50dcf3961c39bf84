"""A published dictionary is measured as a run is, and goes on being trained from the function that it is."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from dictlearn import cli, interop, restore
from dictlearn.evaluate import evaluate
from dictlearn.runs.workdir import read_records
from dictlearn.train import train
from tests.helpers import planted_config
from tests.lm.toy import SPEC, toy, write_gguf
from tests.streams.language import write_text

TAP = "resid_mid.0"


def on_planted(name, **changes):
    changes = {
        "rule": {"lr": 3e-3},
        "stream": {"normalise": "unit_mean_sq"},
        "log_every": 1,
    } | changes
    return planted_config(name, **({"steps": 200} | changes))


@pytest.fixture(scope="module", params=["topk", "jumprelu"])
def published(request, tmp_path_factory):
    """(variant, a run of it, its dictionary as SAELens has it)."""
    home = tmp_path_factory.mktemp("published")
    train(on_planted(request.param), home / "run")
    (trained,) = restore(home / "run")
    interop.save(trained.folded(), home / "theirs", "saelens")
    return request.param, trained, home


def explained(path):
    lines = (path / "metrics.jsonl").read_text().splitlines()
    return [list(json.loads(line).values())[-1]["explained_variance"] for line in lines]


def test_it_goes_on_from_its_explained_variance_and_keeps_it(published, tmp_path):
    name, _, home = published
    start = {"path": str(home / "theirs")}
    gently = {"lr": 1e-3, "warmup_steps": 20}
    train(on_planted(name, start=start, rule=gently), tmp_path / "on")
    before, after = explained(home / "run"), explained(tmp_path / "on")
    best = np.mean(before[-20:])
    assert before[0] < best - 0.3
    assert min(after) > best - 0.03
    assert np.mean(after[-20:]) > best - 0.005


def test_all_members_start_from_the_same_function(published, tmp_path):
    """At a rate of zero, under another normalisation."""
    name, trained, home = published
    still = {"lr": 0.0}
    changes = {
        "steps": 1,
        "sweep": {"seed": (0, 1)},
        "stream": {"normalise": "none"},
        "rule": still,
    }
    train(on_planted(name, start={"path": str(home / "theirs")}, **changes), tmp_path / "on")
    x_BD = jax.random.normal(jax.random.key(0), (64, 32))
    for one in restore(tmp_path / "on"):
        y_BD = trained.reconstruct(x_BD)
        np.testing.assert_allclose(one.reconstruct(x_BD), y_BD, rtol=1e-4, atol=1e-5)


def test_another_width_is_refused_with_both(published, tmp_path):
    name, _, home = published
    config = on_planted(name, dictionary={"n_latents": 48}, start={"path": str(home / "theirs")})
    with pytest.raises(ValueError, match=r"\(1, 64, 32\), not \(1, 48, 32\)"):
        train(config, tmp_path / "on")
    with pytest.raises(ValueError, match="workdir"):
        train(on_planted(name, start={"program": "x"}), tmp_path / "on")


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """A run on a language model, its metrics, and its dictionary in a file."""
    home = tmp_path_factory.mktemp("spoken")
    write_gguf(home / "toy.gguf", *toy(0, dataclasses.replace(SPEC, vocab=260, n_layers=1)))
    write_text(home / "text.txt")
    config = {
        **{"seed": 0, "steps": 50, "batch_size": 64},
        "model": {"name": "toy", "path": str(home / "toy.gguf")},
        "harvest": {"taps": (TAP,), "text": str(home / "text.txt"), "sequence_length": 16},
        "stream": {"name": "from_lm", "normalise": "unit_mean_sq"},
        "dictionary": {"name": "topk", "n_latents": 32, "k": 3},
        "objective": {"name": "squared_error"},
        "rule": {"name": "adam", "lr": 1e-2, "warmup_steps": 1},
        "evaluate": {"n_tokens": 256, "n_sequences": 8},
    }
    config["harvest"] |= {"lm_batch": 8, "held_out": 0.3, "dtype": "float32"}
    train(config, home / "run")
    evaluate(config, home / "run")
    (trained,) = restore(home / "run")
    interop.save(trained, home / "one.safetensors", "safetensors")
    return home, config


def test_in_a_file_it_measures_what_it_measured_in_its_run(spoken, tmp_path):
    home, config = spoken
    trained = interop.load(home / "one.safetensors")
    ((name, found),) = evaluate(config, tmp_path, dictionary=trained).items()
    ((known, wanted),) = read_records(home / "run" / "metrics.json").items()
    assert name == known
    numbers = {key: value for key, value in wanted.items() if isinstance(value, float)}
    assert len(numbers) > 10
    assert {key: found[key] for key in numbers} == pytest.approx(numbers, rel=1e-5, nan_ok=True)


def test_the_command_measures_it_on_any_model_and_text(spoken, tmp_path, capsys):
    home, _ = spoken
    words = [f"--dictionary={home / 'one.safetensors'}", f"--model={home / 'toy.gguf'}"]
    words += ["--length=16", f"--text={home / 'text.txt'}", f"--workdir={tmp_path / 'measured'}"]
    chosen = ["reconstruction.compat=True", "loss_recovered={}"]
    chosen = [f"--config.meters.{each}" for each in chosen]
    assert cli.main(["eval", *words, *chosen]) == 0, capsys.readouterr()
    (found,) = read_records(tmp_path / "measured" / "metrics.json").values()
    assert found["explained_variance"] > 0.3
    assert found["compat"]["dictionary_learning"]["l0"] == pytest.approx(found["l0"], rel=0.2)
    assert "dead_fraction" not in found
    assert found["ce_original"] <= found["ce_spliced"]
    assert cli.main(["eval", *words, "--tap=mlp_act.0"]) == 1
    told = capsys.readouterr().err
    assert "12" in told
    assert "20" in told
    assert cli.main(["eval", *words, "--config.meters.nothing={}"]) == 1
    assert "nothing" in capsys.readouterr().err
    assert cli.main(["eval", words[0], f"--workdir={home / 'run'}"]) == 1
    assert "--workdir" in capsys.readouterr().err


def test_what_no_file_says_is_asked_for(spoken, tmp_path, capsys):
    home, _ = spoken
    trained = dataclasses.replace(interop.load(home / "one.safetensors"), sites=())
    interop.save(trained, tmp_path / "bare.safetensors", "safetensors")
    assert cli.main(["eval", f"--dictionary={tmp_path / 'bare.safetensors'}"]) == 1
    told = capsys.readouterr().err
    assert "--model" in told
    assert "--tap" in told
