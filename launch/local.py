#!/usr/bin/env python3
"""N processes of `dictlearn train` on this machine, started again when one is lost.

    python launch/local.py --processes=2 --devices=4 -- --config=experiments/planted.py --workdir=runs/planted

Everything after `--` goes to each `dictlearn train`. --devices: CPU devices a process. Without it JAX uses the
devices present; one process is enough for the GPUs or TPUs of one machine. When a process ends badly, the
others have --grace seconds to notice and are then killed. All are started again, at most --restarts times, if
every one that ended badly was stopped (exit 75) or killed by a signal; an error (1, 2) is final. SIGTERM and ^C
are handed on: the run saves, and this exits with 75. --dry-run prints the commands. Needs nothing but Python.
"""

import argparse
import os
import shlex
import signal
import socket
import subprocess
import sys
import time

EX_TEMPFAIL = 75
"""Exit status of a run that the same command goes on with."""


def main() -> int:
    words = sys.argv[1:]
    cut = words.index("--") if "--" in words else len(words)
    shape = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=shape)
    parser.add_argument("--processes", type=int, required=True, metavar="N")
    parser.add_argument("--devices", type=int, metavar="N")
    parser.add_argument("--restarts", type=int, default=20, metavar="N")
    parser.add_argument("--grace", type=float, default=60, metavar="SECONDS")
    parser.add_argument("--dry-run", action="store_true")
    options, arguments = parser.parse_args(words[:cut]), words[cut + 1 :]
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: asked.append(number))
    for restart in range(options.restarts + 1):
        if restart:
            say(f"restart {restart}, at most {options.restarts}")
        commands = train(options.processes, arguments)
        if options.dry_run:
            print("\n".join(shlex.join([*settings(options.devices), *c]) for c in commands))
            return 0
        status = run(commands, settings(options.devices), options.grace, asked)
        if status != EX_TEMPFAIL or asked:
            break
    return status


def train(processes: int, arguments: list[str]) -> list[list[str]]:
    """The command of each process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = [f"--coordinator=127.0.0.1:{port}", f"--processes={processes}"]
    command = [sys.executable, "-m", "dictlearn.cli", "train"]
    return [[*command, *place, f"--process={i}", *arguments] for i in range(processes)]


def settings(devices: int | None) -> list[str]:
    """What `env` sets for every process."""
    on_cpu = ["JAX_PLATFORMS=cpu", f"JAX_NUM_CPU_DEVICES={devices}"] if devices else []
    return ["env", "PYTHONUNBUFFERED=1", *on_cpu]


def run(commands: list[list[str]], env: list[str], grace: float, asked: list[int]) -> int:
    """Runs the processes to their end; 0, EX_TEMPFAIL if a restart may help, or the first other status. The
    first process to end is the cause: after a kill, the errors of processes that waited for the lost one do not
    count."""
    environment = {**os.environ, **dict(word.split("=", 1) for word in env[1:])}
    # Sessions of their own: a ^C at the terminal comes once, from here.
    running = [subprocess.Popen(c, env=environment, start_new_session=True) for c in commands]
    say(" ".join(f"process {i} is {p.pid}" for i, p in enumerate(running)))
    told, deadline, lost = 0, float("inf"), False
    while None in (ends := [process.poll() for process in running]):
        if len(asked) > told:
            told = len(asked)
            for process in running:
                process.send_signal(signal.SIGTERM)
        if deadline == float("inf") and any(ends):
            deadline = time.monotonic() + grace
            lost = any(code is not None and code < 0 for code in ends)
        if time.monotonic() > deadline:
            for process in running:
                process.kill()
        time.sleep(0.1)
    for i, code in enumerate(ends):
        if code:
            by = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit {code}"
            say(f"process {i}: {by}")
    errors = [code for code in ends if code > 0 and code != EX_TEMPFAIL]
    return errors[0] if errors and not lost else EX_TEMPFAIL if any(ends) else 0


def say(text: str) -> None:
    print(f"launch: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
