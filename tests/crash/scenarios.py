"""What writes to disk, one scenario each. Its command, given again after a crash, goes on."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dictlearn import cli, events, files
from dictlearn import lm as language
from dictlearn.cli import command
from dictlearn.runs.checkpoint import Checkpoints
from dictlearn.runs.workdir import Log, write_json
from tests.events.conftest import F, S, T
from tests.events.conftest import job as event_job
from tests.lm import toy
from tests.streams.language import SIZES, TAPS, write_lm, write_text

STEPS = 8
CONFIG = "from ml_collections import ConfigDict\n\ndef get_config():\n    return ConfigDict({!r})\n"


class Scenario(NamedTuple):
    """run(data, folder): the command, to its exit status. begin(data, folder): makes what is in the folder
    before. whole: names in the folder that are, at every moment, what they were before or are after."""

    run: Callable[[Path, Path], int]
    begin: Callable[[Path, Path], int | None] = lambda data, folder: None
    whole: tuple[str, ...] = ()


def prepare(data: Path) -> None:
    """The data that the commands read."""
    rows = np.random.default_rng(0).normal(size=(300, 8)).astype("f4")
    np.save(data / "x.npy", rows)
    write_lm(data)
    write_text(data / "text.txt")


def told(function: Callable[[], object]) -> int:
    """The exit status of a function as the command line would give it, with its line."""
    try:
        function()
    except command.EXPECTED as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _config(data: Path, name: str, config: dict) -> str:
    file = data / f"{name}.py"
    file.write_text(CONFIG.format(config))
    return f"--config={file}"


def train(data: Path, folder: Path, steps: int = STEPS) -> int:
    config = {
        **{"seed": 0, "steps": steps, "batch_size": 16, "checkpoint_every": 2, "log_every": 1},
        "stream": {"name": "npy", "path": str(data / "x.npy")},
        "dictionary": {"name": "topk", "n_latents": 16, "k": 3, "aux_k": 0},
        "rule": {"name": "adam", "lr": 1e-3},
        "evaluate": {"n_tokens": 16},
    }
    return cli.main(["train", _config(data, f"train_{steps}", config), f"--workdir={folder}"])


def harvest(data: Path, folder: Path) -> int:
    config = {
        **{"seed": 0, "steps": 1, "batch_size": 16},
        "dictionary": {"name": "topk", "n_latents": 16, "k": 3, "aux_k": 0},
        "rule": {"name": "adam", "lr": 1e-3},
        "model": {"name": "toy", "path": str(data / "toy.gguf")},
        "harvest": {"taps": TAPS, "text": str(data / "text.txt"), "dtype": "float32", **SIZES},
        "stream": {"name": "store", "path": str(folder / "store"), "tap": TAPS[0]},
    }
    return cli.main(["harvest", _config(data, "harvest", config), f"--workdir={folder}"])


def export(format: str) -> Scenario:
    """Exporting where the dictionaries of an earlier step had been exported."""

    def run(data: Path, folder: Path) -> int:
        out = f"--out={folder / 'export'}"
        return cli.main(["export", f"--workdir={data / 'later'}", f"--format={format}", out])

    def begin(data: Path, folder: Path) -> None:
        for name, steps in (("earlier", 2), ("later", 4)):
            if not (data / name).exists():
                assert not train(data, data / name, steps)
        out = f"--out={folder / 'export'}"
        assert not cli.main(["export", f"--workdir={data / 'earlier'}", f"--format={format}", out])

    suffix = {"npz": ".npz", "safetensors": ".safetensors"}.get(format, "")
    return Scenario(run, begin, (f"export/topk_n16_0{suffix}", "export/index.json"))


def checkpoints(data: Path, folder: Path) -> int:
    """Saves, each of which depends on the one before it, of which two are kept."""

    def go() -> None:
        with Checkpoints(folder, keep=2) as saved:
            found = saved.restore(lambda meta: {"x": np.zeros(8, np.float32)})
            saved.tidy()
            step, state, _ = found or (0, {"x": np.full(8, np.nan, np.float32)}, {})
            x = np.asarray(state["x"])
            for after in range(step + 1, 6):
                x = np.nan_to_num(x) * 3 + np.float32(after)
                saved.save(after, {"x": x}, {"step": after})

    return told(go)


def log(data: Path, folder: Path) -> int:
    """A log and a record of it; goes on from the last line, as a run does from a checkpoint at every second."""

    def go() -> None:
        folder.mkdir(exist_ok=True)
        saved = folder / "step.json"
        start = json.loads(saved.read_text())["step"] if saved.exists() else 0
        log = Log(folder / "metrics.jsonl", start)
        for step in range(start + 1, 7):
            log.take(step, step * 16, [(["a"], {"loss": np.array([step / 3])})])
            if step % 2 == 0:
                log.flush()
                write_json(saved, {"step": step})

    return told(go)


def write_events(data: Path, folder: Path) -> int:
    """An event cache of random codes, in parts."""
    codes_UF = np.random.default_rng(0).integers(0, 2, (S * T, F)).astype(np.float32)
    return told(lambda: events.write(event_job(codes_UF), folder / "events"))


def cache(data: Path, folder: Path) -> int:
    """The checksum of a file, and its memory."""

    def go() -> None:
        os.environ["XDG_CACHE_HOME"] = str(folder)
        files._SMALL, files._SETTLED_NS = 0, -(10**18)
        assert files.digest(data / "x.npy") == files.sha256(data / "x.npy")

    return told(go)


def save_lm(data: Path, folder: Path, seed: int = 1) -> int:
    return told(lambda: language.save(toy.toy_lm(seed), folder / "model"))


TABLE = {
    "checkpoints": Scenario(checkpoints),
    "train": Scenario(train, whole=("config.json", "metrics.json")),
    "harvest": Scenario(harvest),
    "export npz": export("npz"),
    "export safetensors": export("safetensors"),
    "export saelens": export("saelens"),
    "events": Scenario(write_events),
    "log": Scenario(log),
    "checksums": Scenario(cache),
    "lm.save": Scenario(save_lm, lambda data, folder: save_lm(data, folder, 0), whole=("model",)),
}


def fresh(scenario: str, data: Path, folder: Path) -> None:
    """The folder as it is before the command."""
    if folder.exists():
        shutil.rmtree(folder)
    shutil.copytree(data / "before" / scenario, folder)
