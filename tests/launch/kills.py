"""Workers killed at random moments lose nothing:

    python tests/launch/kills.py [--kills=10] [--processes=2] [--devices=2] [--steps=600] [--seed=0]

A small planted run under `launch/local.py` has one worker after another killed with `kill -9`, each at a
moment drawn from (seed): while it starts, compiles, trains or saves. If it ends before all are sent, another is
begun. Their dictionaries are compared with those of the same run undisturbed, and must be the same to the bit.
"""

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
CONFIG = "from ml_collections import ConfigDict\n\ndef get_config():\n    return ConfigDict({!r})\n"


class Run:
    """`launch/local.py` at work on a workdir, what it says in `said`."""

    def __init__(self, config: dict, workdir: Path, processes: int, devices: int):
        self.workdir, self.log = workdir, workdir.with_suffix(".log")
        file = workdir.with_suffix(".py")
        file.write_text(CONFIG.format(config))
        command = [sys.executable, ROOT / "launch" / "local.py", f"--processes={processes}"]
        command += [
            f"--devices={devices}",
            "--grace=20",
            "--",
            f"--config={file}",
            f"--workdir={workdir}",
        ]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*map(str, command), "--heartbeat=5"], env=environment, stdout=log, stderr=log
            )

    def said(self) -> str:
        return self.log.read_text()

    def workers(self, start: int) -> list[int]:
        """The ids of the workers of the n-th start, once it has been; none if the run is over."""
        while self.process.poll() is None:
            lines = re.findall(r"launch: (process 0 is .*)", self.said())
            if len(lines) > start:
                return [int(found) for found in re.findall(r"is (\d+)", lines[start])]
            time.sleep(0.02)
        return []

    def newest(self) -> int:
        """The newest step on disk; 0 without one."""
        return max(
            (int(p.name) for p in self.workdir.glob("checkpoints/[0-9]*") if p.name.isdigit()),
            default=0,
        )

    def send(
        self, numbers: Sequence[int], moment: Callable[["Run"], None], chance: random.Random
    ) -> list[int]:
        """Sends a worker drawn from `chance` a signal after `moment` of each start, until the run is over;
        gives the newest step on disk at each."""
        sent = []
        for start, number in enumerate(numbers):
            workers = self.workers(start)
            if workers:
                moment(self)
            if self.process.poll() is not None:
                break
            os.kill(chance.choice(workers), number)
            sent.append(self.newest())
        return sent

    def finish(self, seconds: float = 600) -> None:
        assert self.process.wait(seconds) == 0, self.said()


def planted(steps: int, every: int) -> dict:
    """P1 with a TopK dictionary whose latents are split two ways, quick to compile."""
    return {
        "seed": 0,
        "steps": steps,
        "batch_size": 128,
        "checkpoint_every": every,
        "stream": {"name": "synthetic", "kind": "p1"},
        "dictionary": {"name": "topk", "n_latents": 64, "k": 3, "aux_k": 0},
        "objective": {"name": "squared_error"},
        "rule": {"name": "adam", "lr": 1e-3, "warmup_steps": 1, "decay_fraction": 0},
        "learner": {"atoms_start": "data_rows", "b_dec_start": "mean"},
        "evaluate": {"n_tokens": 256},
        "mesh": {"model": 2},
    }


def difference(a: Path, b: Path) -> float:
    """The largest between the dictionaries of two finished runs."""
    import jax
    import numpy as np

    from dictlearn.runs.trained import restore_run

    runs = [restore_run(path) for path in (a, b)]
    assert runs[0].step == runs[1].step
    pairs = zip(*(jax.tree.leaves(run.variables) for run in runs), strict=True)
    return max(float(np.abs(np.asarray(x) - np.asarray(y)).max()) for x, y in pairs)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name, value in (
        ("kills", 10),
        ("processes", 2),
        ("devices", 2),
        ("steps", 600),
        ("seed", 0),
    ):
        parser.add_argument(f"--{name}", type=int, default=value)
    o = parser.parse_args()
    chance, folder = random.Random(o.seed), Path(tempfile.mkdtemp(prefix="kills-"))
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder / "programs"))
    began = time.monotonic()
    whole = Run(planted(o.steps, 50), folder / "whole", o.processes, o.devices)
    while not whole.newest() and whole.process.poll() is None:
        time.sleep(0.05)
    starting = time.monotonic() - began
    whole.finish()
    print(
        f"undisturbed: {time.monotonic() - began:.0f} s, {starting:.0f} to the first checkpoint",
        flush=True,
    )

    moment = lambda run: time.sleep(1.5 * starting * chance.random())
    left, largest = o.kills, 0.0
    while left:
        killed = Run(
            planted(o.steps, 50), folder / f"killed_{o.kills - left}", o.processes, o.devices
        )
        sent = killed.send([signal.SIGKILL] * left, moment, chance)
        killed.finish()
        left, largest = left - len(sent), max(largest, difference(whole.workdir, killed.workdir))
        print(f"a run killed {len(sent)} times, at or beyond steps {sent}", flush=True)
    print(f"{o.kills} kills, {time.monotonic() - began:.0f} s; largest difference {largest}")
    return 0 if largest == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
