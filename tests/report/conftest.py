"""Two finished runs, made once: a sweep on planted data, and one dictionary on a toy model."""

import json

import jax
import numpy as np
import pytest

from dictlearn import lm as language
from dictlearn.evaluate import evaluate
from dictlearn.harvest import harvest
from dictlearn.runs import drawn
from dictlearn.runs.workdir import read_json, write_json
from dictlearn.scaling import fit as scaling_fit
from dictlearn.scaling import law as scaling_law
from dictlearn.scaling import laws, paths
from dictlearn.scaling.draw import draw
from dictlearn.scaling.summary import summarise
from dictlearn.train import train
from tests.helpers import planted_config
from tests.lm import toy

TAP = "resid.1"
WORDS = ["<b>the</b>", "&amp;", "café", "—", "naïve", '"thé"', "𝄞", "x < y", "</script>", "Ω\n"]


@pytest.fixture(scope="session")
def planted(tmp_path_factory):
    """The workdir of eight dictionaries on synthetic data, without a language model or a law."""
    path = tmp_path_factory.mktemp("planted") / "run"
    sweep = {"n_latents": (32, 64), "k": (2, 3), "seed": (0, 1)}
    config = planted_config(steps=20, log_every=5, sweep=sweep, evaluate={"n_tokens": 1024})
    train(config, path)
    evaluate(config, path)
    return path


@pytest.fixture(scope="session")
def law(tmp_path_factory):
    """A folder with two laws and their figures, fitted to made-up losses from two starts only."""
    path, random = tmp_path_factory.mktemp("law"), np.random.default_rng(0)
    loss = lambda n, other: float(0.1 + (n * other) ** -0.2 * random.uniform(0.98, 1.02))
    for name, key, others in (("joint", "k", (4, 8, 16)), ("training", "tokens", (10, 20, 40, 80))):
        grid = [(n, other) for n in (256, 512, 1024, 2048) for other in others]
        runs = [
            {"n_latents": n, key: other, "seed": 0, "loss": loss(n, other)} for n, other in grid
        ]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(scaling_fit, "start_grid", lambda law: scaling_law.start_grid(law)[:2])
            found = summarise(laws.make(name), runs, n_bootstrap=20)
        numbers, drawing = paths(name, path)
        write_json(numbers, {**found, "loss": "fvu", "runs": runs})
        drawn.write(draw(runs, found), drawing)
    return path


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """Arguments of `lm.load` for a toy whose last norm has a gain, and whose name is no HTML."""
    spec, params = toy.toy()
    gain_D = 1 + jax.random.uniform(jax.random.key(1), params["norm_D"].shape)
    path = tmp_path_factory.mktemp("model") / "toy.gguf"
    toy.write_gguf(path, spec, {**params, "norm_D": gain_D})
    return {"name": "<i>toy</i>", "path": str(path)}


@pytest.fixture(scope="session")
def spoken(model, tmp_path_factory):
    """The workdir of one dictionary on a store harvested from the toy."""
    folder, random = tmp_path_factory.mktemp("spoken"), np.random.default_rng(0)
    texts = [" ".join(random.choice(WORDS, size=random.integers(4, 14))) for _ in range(150)]
    lines = "\n".join(json.dumps({"text": text}) for text in texts)
    (folder / "text.jsonl").write_text(lines, "utf-8")
    sizes = {"sequence_length": 24, "shard_rows": 2000, "held_out": 0.2, "dtype": "float32"}
    harvest(language.load(**model), folder / "store", (TAP,), text=folder / "text.jsonl", **sizes)
    config = planted_config(
        steps=30,
        batch_size=64,
        stream={"path": str(folder / "store"), "tap": TAP, "block_rows": 16},
        evaluate={"n_tokens": 400, "n_sequences": 8},
    )
    config["stream"] = {**config["stream"], "name": "store"}
    config["stream"].pop("kind")
    config["model"] = model
    train(config, folder / "run")
    evaluate(config, folder / "run")
    return folder / "run"


@pytest.fixture
def config_of():
    """workdir -> its config."""
    return lambda workdir: read_json(workdir / "config.json", "train")
