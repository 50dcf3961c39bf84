"""Workers killed at random moments, or at random changes of a file, lose nothing:

    python -m tests.launch.kills [--n=10] [--processes=2] [--devices=2] [--steps=600] [--seed=0] [--changes]

A small planted run under `launch/local.py` has one worker after another killed with `kill -9`, each at a
moment drawn from (seed): while it starts, compiles, trains or saves. If it ends before all are sent, another
is begun. With --changes each run has one worker killed before one of its changes of the workdir
(`tests/crash/shim.c`). The result is compared to the bit with that of the same run undisturbed: every file and
every leaf of every checkpoint (`tests/crash/bits.py`).
"""

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.crash import shim

ROOT = Path(__file__).parents[2]
CONFIG = "from ml_collections import ConfigDict\n\ndef get_config():\n    return ConfigDict({!r})\n"


class Run:
    """`launch/local.py` at work on a workdir, what it says in `said`."""

    def __init__(self, config: dict, workdir: Path, processes: int, devices: int, **more: str):
        """more: what else is in the environment."""
        self.workdir, self.log = workdir, workdir.with_suffix(".log")
        file = workdir.with_suffix(".py")
        file.write_text(CONFIG.format(config))
        command = [sys.executable, ROOT / "launch" / "local.py", f"--processes={processes}"]
        command += [
            f"--devices={devices}",
            "--grace=20",
            "--restarts=1000000",
            "--",
            f"--config={file}",
            f"--workdir={workdir}",
        ]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **more}
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


def differ(a: Path, b: Path) -> list[str]:
    """The names of files and leaves that differ in two workdirs."""
    from tests.crash.bits import bits

    one, other = bits(a), bits(b)
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


class Kills:
    """Kills of one configuration, compared with an undisturbed run."""

    def __init__(self, folder: Path, n: int, processes: int, devices: int, steps: int, seed: int):
        self.folder, self.n, self.chance = folder, n, random.Random(seed)
        self.processes, self.devices, self.config = processes, devices, planted(steps, 50)
        self.lost: list[str] = []

    def start(self, name: str, **more: str) -> Run:
        return Run(self.config, self.folder / name, self.processes, self.devices, **more)

    def whole(self) -> float:
        """Runs undisturbed; the seconds to its first checkpoint."""
        began, run = time.monotonic(), self.start("whole")
        while not run.newest() and run.process.poll() is None:
            time.sleep(0.05)
        starting = time.monotonic() - began
        run.finish()
        print(f"undisturbed: {time.monotonic() - began:.0f} s", flush=True)
        return starting

    def compare(self, run: Run, said: str) -> None:
        """Waits for a run, compares it with the undisturbed one, and forgets it."""
        run.finish()
        lost = differ(self.folder / "whole", run.workdir)
        self.lost += lost
        print(f"{said}{': ' if lost else ''}{', '.join(lost)}", flush=True)
        shutil.rmtree(run.workdir)

    def at_moments(self) -> None:
        starting, left = self.whole(), self.n
        moment = lambda run: time.sleep(1.5 * starting * self.chance.random())
        while left:
            run = self.start(f"killed_{self.n - left}")
            sent = run.send([signal.SIGKILL] * left, moment, self.chance)
            left -= len(sent)
            self.compare(run, f"a run killed {len(sent)} times, at or beyond steps {sent}")

    def at_changes(self) -> None:
        self.whole()
        library = str(shim.build(self.folder))
        counts = [len(self.traced(f"count_{i}", library, i, 0)) for i in range(self.processes)]
        points = [(i, n) for i, count in enumerate(counts) for n in range(1, count + 1)]
        print(f"changes of the workdir by each process: {counts}", flush=True)
        for process, n in self.chance.sample(points, min(self.n, len(points))):
            self.traced(f"killed_{process}_{n}", library, process, n)

    def traced(self, name: str, library: str, process: int, at: int) -> list[shim.Change]:
        """The changes by one process of a run in which it is killed at one of them."""
        trace = self.folder / f"{name}.trace"
        only = f"--process={process}"
        told = shim.settings(self.folder / name, trace, at, only=only)
        run = self.start(name, LD_PRELOAD=library, **told)
        run.finish()
        changes = shim.told(trace)
        said = f"process {process} at {len(changes)}"
        self.compare(run, f"{said}, {changes[-1].call} {changes[-1].path.name}")
        assert not at or "killed by SIGKILL" in run.said()
        return changes


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    numbers = {"n": 10, "processes": 2, "devices": 2, "steps": 600, "seed": 0}
    for name, value in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--changes", action="store_true")
    o = parser.parse_args()
    folder, began = Path(tempfile.mkdtemp(prefix="kills-")), time.monotonic()
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder / "programs"))
    kills = Kills(folder, o.n, o.processes, o.devices, o.steps, o.seed)
    kills.at_changes() if o.changes else kills.at_moments()
    seconds = time.monotonic() - began
    print(f"{o.n} kills, {seconds:.0f} s; differ: {', '.join(kills.lost) or 'nothing'}")
    return int(bool(kills.lost))


if __name__ == "__main__":
    sys.exit(main())
