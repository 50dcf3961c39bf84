"""Everything that writes to disk, crashed at every change that it makes:

    python -m tests.crash.points [--scenario=NAME ...] [--mode=NAME ...] [--points=0] [--seed=0] [--json]

A command runs with the shim (`shim.c`). At its n-th change of a file it is killed, killed during a write, gets
an input/output error, finds the disk full, or sees the clock jump back by an hour. For `power` it is killed,
and what no fsync had brought to the disk is taken away. Then the same command is given once more. It must end
with the bits of an undisturbed command, without rewriting a checkpoint that was saved. --points: the number of
points of each scenario and mode, drawn from (seed); 0 for all.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.crash import power, shim

MODES = (*shim.MODES, "power")
SECONDS = {mode: 25 if mode == "clock" else 120 for mode in MODES}
"""How long a command may take. Under a clock that was set back it may wait, and then it says so."""
WAITED = -signal.SIGABRT
LOADED = "CRASH_LOADED"


def main(argv: Sequence[str] | None = None) -> int:
    from tests.crash.scenarios import TABLE

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scenario", action="append", choices=TABLE)
    parser.add_argument("--mode", action="append", choices=MODES)
    parser.add_argument("--points", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    o = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="crash-") as folder:
        if LOADED not in os.environ:
            return _with_shim(Path(folder), argv or sys.argv[1:])
        tries = Tries(Path(folder).resolve())
        found = {}
        for name in o.scenario or TABLE:
            chance = random.Random(f"{o.seed} {name}")
            found[name] = tries.scenario(name, o.mode or MODES, o.points, chance, quiet=o.json)
    if o.json:
        print(json.dumps(found))
    return int(any(one["problems"] for modes in found.values() for one in modes.values()))


def _with_shim(folder: Path, words: Sequence[str]) -> int:
    """The same command in a process that has loaded the shim."""
    library = shim.build(folder)
    more = {
        "LD_PRELOAD": str(library),
        LOADED: "1",
        "JAX_PLATFORMS": "cpu",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    command = [sys.executable, "-m", "tests.crash.points", *words]
    return subprocess.run(command, env={**os.environ, **more}).returncode


class Tries:
    """Crashes in a folder. All commands are forks of this process, which has imported what they need and never
    starts JAX's backend."""

    def __init__(self, folder: Path):
        from orbax.checkpoint import v1  # noqa: F401 - for the forks

        from tests.crash import scenarios

        self.data, self.work, self.trace = folder / "data", folder / "work", folder / "trace"
        self.log, self.bits = folder / "log", folder / "bits.json"
        self.table, self.fresh = scenarios.TABLE, scenarios.fresh
        self.data.mkdir()
        (self.data / "before").mkdir()
        assert not self._fork(lambda: scenarios.prepare(self.data) or 0)

    def scenario(
        self, name: str, modes: Sequence[str], points: int, chance: random.Random, quiet: bool
    ) -> dict[str, dict]:
        """{mode: {points, of, waited, problems}} of one scenario."""
        before = self.data / "before" / name
        before.mkdir()
        status = self._fork(lambda: self.table[name].begin(self.data, before) or 0)
        assert status == 0, self.log.read_text()
        for _ in range(2):  # The first compiles.
            self.fresh(name, self.data, self.work)
            disk = power.Disk(self.work)
            status, wanted = self._to_the_end(name)
            assert status == 0, self.log.read_text()
        changes, after = shim.told(self.trace), self._parts(name)
        for change in changes:
            disk.change(change)
        assert not (unseen := disk.unseen(self.work)), f"written past the shim: {unseen}"
        found = {}
        for mode in modes:
            began, every = time.monotonic(), list(_points(changes, mode))
            chosen = sorted(chance.sample(every, min(points, len(every)))) if points else every
            problems, self.waited = [], 0
            for n in chosen:
                if problem := self._point(name, n, mode, wanted, after):
                    problems.append(f"{n} ({_said(changes[n - 1], self.work)}): {problem}")
            found[mode] = {"points": len(chosen), "of": len(every), "waited": self.waited}
            found[mode]["problems"] = problems
            if not quiet:
                seconds = time.monotonic() - began
                waited = f", {self.waited} waited for the clock" if self.waited else ""
                print(
                    f"{name:20}{mode:6}{len(chosen):5} points{seconds:7.0f} s{waited}", flush=True
                )
                print("".join(f"    {problem}\n" for problem in problems), end="", flush=True)
        return found

    def _point(self, name: str, n: int, mode: str, wanted: dict, after: dict) -> str:
        """What is wrong after a crash at the n-th change; "" if nothing is."""
        self.fresh(name, self.data, self.work)
        before, disk = self._parts(name), power.Disk(self.work)
        status = self._crash(name, n, "kill" if mode == "power" else mode)
        said, changes = self.log.read_text(), shim.told(self.trace)
        if "Traceback" in said or "unexpected" in said:
            return f"a traceback: {said[:1500]}"
        if status == WAITED and mode == "clock" and f"{shim.BEHIND} s" in said:
            self.waited += 1
        elif status not in ((0,) if mode == "clock" else (0, 1, -9)):
            return f"status {status}: {said[-500:]}"
        if status == 1 and "error: " not in said:
            return f"status 1 without a line: {said[-500:]}"
        made = changes[: n - 1]
        if mode == "power" and status == -9:
            power.cut(disk, made)
        for part, is_now in self._parts(name).items():
            if is_now not in (before[part], after[part]):
                return f"{part} is neither what it was nor what it is to be"
        # After a failed change the command goes on; that change itself was not made.
        made += changes[n if mode == "eio" else n - 1 :] if status != -9 else []
        saved = _saved(made, reported=mode == "power")
        status, found = self._to_the_end(name)
        if status:
            return f"the next command: status {status}: {self.log.read_text()[-1500:]}"
        if anew := sorted(saved & _written(shim.told(self.trace))):
            return f"saved and written anew: {', '.join(anew)}"
        differ = sorted(k for k in wanted.keys() | found.keys() if wanted.get(k) != found.get(k))
        return f"differ from the undisturbed: {', '.join(differ)}" if differ else ""

    def _crash(self, name: str, n: int, mode: str) -> int:
        self.trace.unlink(missing_ok=True)

        def run() -> int:
            os.environ.update(shim.settings(self.work, self.trace, n, mode))
            return self.table[name].run(self.data, self.work)

        return self._fork(run, SECONDS[mode])

    def _to_the_end(self, name: str) -> tuple[int, dict]:
        """The status of the undisturbed command and the bits that it leaves."""
        from tests.crash.bits import bits

        self.trace.unlink(missing_ok=True)
        self.bits.unlink(missing_ok=True)

        def run() -> int:
            os.environ.update(shim.settings(self.work, self.trace))
            status = self.table[name].run(self.data, self.work)
            if status == 0:
                self.bits.write_text(json.dumps(bits(self.work)))
            return status

        status = self._fork(run)
        return status, json.loads(self.bits.read_text()) if self.bits.exists() else {}

    def _parts(self, name: str) -> dict[str, object]:
        """What is in each part of the folder that is always whole; None for one that is not there."""
        return {part: _content(self.work / part) for part in self.table[name].whole}

    def _fork(self, function: Callable[[], int], seconds: float = 120) -> int:
        """The exit status of a function in a fork, or minus the signal that ended it."""
        sys.stdout.flush()
        if not (child := os.fork()):
            status = 70
            try:
                log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                os.dup2(log, 1), os.dup2(log, 2)
                status = function()
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush(), sys.stderr.flush()
                os._exit(status)
        deadline = time.monotonic() + seconds
        while not (ended := os.waitpid(child, os.WNOHANG))[0]:
            if time.monotonic() > deadline:
                os.kill(child, signal.SIGABRT)
            time.sleep(0.005)
        return os.waitstatus_to_exitcode(ended[1])


def _points(changes: Sequence[shim.Change], mode: str) -> Iterator[int]:
    """The changes at which a mode differs from the others."""
    calls = {"tear": ("write",), "full": ("write", "open", "mkdir")}.get(mode)
    return (n for n, change in enumerate(changes, 1) if calls is None or change.call in calls)


def _saved(changes: Sequence[shim.Change], reported: bool) -> set[str]:
    """The checkpoints that were sealed. reported: only those that the run took for saved, beginning the next
    one, removing an older one, or ending."""
    sealed, found = set(), set()
    for call, path, new, _ in changes:
        if new is not None and new.name == "checksums.sha256":
            sealed.add(new.parent.name)
        begins = call == "mkdir" and ".orbax-checkpoint-tmp" in path.name
        removes = call == "unlink" and any(part.isdigit() for part in path.parts)
        if begins or removes or (call == "unlink" and path.name == ".lock"):
            found |= sealed
    return found if reported else sealed


def _written(changes: Sequence[shim.Change]) -> set[str]:
    """The checkpoints that are written."""
    began = (change.path.name for change in changes if change.call == "mkdir")
    return {name.partition(".")[0] for name in began if ".orbax-checkpoint-tmp" in name}


def _content(path: Path) -> object:
    if path.is_dir():
        return {one.name: _content(one) for one in path.iterdir()}
    return path.read_bytes() if path.exists() else None


def _said(change: shim.Change, folder: Path) -> str:
    return f"{change.call} {change.path.relative_to(folder)}"


if __name__ == "__main__":
    sys.exit(main())
