"""Several processes as one run: how they find each other, and how a dead or hung process ends the others.

A process joins others if it is told to (`--coordinator`, `--processes`, `--process`, or
JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES, JAX_PROCESS_ID), or if Slurm, Open MPI, GKE or a TPU VM started
several. Otherwise nothing is initialised. Everything else is JAX's own runtime.

    late    `start` waits START_SECONDS for all processes, and names the missing ones
    dead    if a process sends no heartbeat, the others end; JAX's message on stderr names it
    hung    if a process lives but finishes no step, `Watch` ends the others and names it

Differs from `jax.distributed.initialize`: heartbeats time out after 30 s, not 100. A process that fails exits
at once, instead of waiting five minutes at the barrier of an orderly end that the others cannot reach.
"""

import argparse
import glob
import importlib.util
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Mapping
from typing import NamedTuple

import jax
from orbax.checkpoint import multihost  # JAX has no public name for its key-value store

EX_TEMPFAIL = 75
"""The exit status of a run that the same command resumes (EX_TEMPFAIL): launchers start it again."""
START_SECONDS = 300
HEARTBEAT_SECONDS = 30
STEP_SECONDS = 1800
"""A longer step is hung; compilation and the checkpoint are included."""
MANAGED = (
    ("SLURM_NTASKS", "SLURM_PROCID", "SLURM_STEP_NODELIST"),
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
)
"""Variables of Slurm and Open MPI: if all are set, the first is the number of processes."""


class Place(NamedTuple):
    """The place of a process in a run: HOST:PORT of process 0, the number of processes, and the index of this
    one.

    All are None if JAX finds them.
    """

    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None


def find(
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Place | None:
    """Finds the place of this process.

    Args:
        coordinator: HOST:PORT of process 0, or "auto" to let JAX find all three.
        processes: the number of processes.
        process: the index of this one.
        environment: the variables from which values that are None are read.

    Returns:
        A Place; None for a single process.

    Raises:
        ValueError: if only some of the three are known, or if they contradict each other.
    """
    coordinator = coordinator or environment.get("JAX_COORDINATOR_ADDRESS")
    if coordinator == "auto":
        return Place()
    processes = _number(processes, "JAX_NUM_PROCESSES", environment)
    process = _number(process, "JAX_PROCESS_ID", environment)
    given = {"--coordinator": coordinator, "--processes": processes, "--process": process}
    missing = [flag for flag, value in given.items() if value is None]
    if len(missing) == len(given):
        return Place() if _managed(environment) or _on_tpu(environment) else None
    if coordinator is None or processes is None or process is None:
        raise ValueError(
            f"{' and '.join(missing)} missing; one of several processes needs --coordinator=HOST:PORT "
            "of process 0, --processes=N and --process=I, or only --coordinator=auto."
        )
    if not re.fullmatch(r".+:\d+", coordinator):
        raise ValueError(f"--coordinator={coordinator} must be HOST:PORT or auto.")
    if not 0 <= process < processes:
        raise ValueError(f"--process={process} must be from 0 to {processes - 1}, --processes - 1.")
    return Place(coordinator, processes, process)


def add_arguments(parser: argparse.ArgumentParser, steps: bool) -> None:
    """Adds the flags of a process that is one of several. steps: whether its work has steps for `Watch`."""
    join = "of several processes: the address of process 0; auto to let JAX find it"
    silent = f"a process without a heartbeat for this time is dead; default {HEARTBEAT_SECONDS}"
    hung = f"the run ends if no step ends for this time; default {STEP_SECONDS}"
    parser.add_argument("--coordinator", metavar="HOST:PORT", help=join)
    parser.add_argument("--processes", type=int, metavar="N", help="their number")
    parser.add_argument(
        "--process", type=int, metavar="I", help="the index of this process, from 0"
    )
    for name, seconds, text in (
        (
            "start_timeout",
            START_SECONDS,
            f"the time to wait for the others; default {START_SECONDS}",
        ),
        ("heartbeat", HEARTBEAT_SECONDS, silent),
        *([("step_timeout", STEP_SECONDS, hung)] if steps else []),
    ):
        parser.add_argument(f"--{name}", type=float, metavar="SECONDS", default=seconds, help=text)


def join(arguments: argparse.Namespace, together: bool) -> None:
    """Finds this process's place from the flags of `add_arguments`, if there are any, and calls `start`.

    Args:
        arguments: the parsed flags.
        together: whether several processes can share the work.

    Raises:
        ValueError: for one of several processes, if they cannot share the work.
    """
    if not together:
        if "JAX_COORDINATOR_ADDRESS" in os.environ or _managed(os.environ):
            raise ValueError(
                "this command runs in one process, and the environment says that it is one of several; "
                "run it outside srun or mpirun, and without JAX_COORDINATOR_ADDRESS."
            )
        return
    place = find(arguments.coordinator, arguments.processes, arguments.process)
    if place is not None:
        start(place, arguments.heartbeat, arguments.start_timeout)


def start(
    place: Place, heartbeat: float = HEARTBEAT_SECONDS, timeout: float = START_SECONDS
) -> None:
    """Joins the other processes, before anything uses a device.

    After the timeout, the process prints on stderr which processes are missing, and exits with EX_TEMPFAIL.

    Args:
        place: the place of this process.
        heartbeat: the seconds without a heartbeat after which a process is dead.
        timeout: the seconds to wait for all processes.
    """
    late = threading.Timer(timeout, lambda: _exit(EX_TEMPFAIL, _late(place, timeout)))
    late.daemon = True
    late.start()
    try:
        jax.distributed.initialize(
            *place,
            initialization_timeout=round(timeout) + 30,
            heartbeat_timeout_seconds=round(heartbeat),
        )
    finally:
        late.cancel()
    if jax.process_index() > 0:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 process 0 says what there is to say


def is_multiprocess() -> bool:
    """Whether this process is one of several."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def fail(status: int, error: BaseException, arguments: argparse.Namespace) -> None:
    """Ends one of several processes at once after an error was printed, so that the others notice.

    An error of the runtime is usually the death of another process. Then the heartbeat is awaited, which
    ends this process with a message that names the dead one.

    Args:
        status: the exit status.
        error: the error.
        arguments: the parsed flags of `add_arguments`.
    """
    if not is_multiprocess():
        return
    if isinstance(error, jax.errors.JaxRuntimeError):
        time.sleep(2 * arguments.heartbeat)
    _exit(status)


class Watch:
    """A context manager that is called after every step. It ends the process with EX_TEMPFAIL if no step ends
    for `seconds`, and names the processes that the others wait for: those with the fewest steps.

    A thread reports this process's steps to the coordination service every `seconds` / 10, so steps do not
    wait. A single process is not watched.
    """

    def __init__(self, seconds: float = STEP_SECONDS):
        self._seconds, self._steps, self._moved = seconds, 0, time.monotonic()
        self._over = threading.Event()

    def __enter__(self) -> "Watch":
        if is_multiprocess():
            threading.Thread(target=self._look, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self._over.set()

    def step(self) -> None:
        """This process has dispatched one more step."""
        self._steps, self._moved = self._steps + 1, time.monotonic()

    def _look(self) -> None:
        store, mine = (
            multihost.get_jax_distributed_client(),
            f"dictlearn/steps/{jax.process_index()}",
        )
        while not self._over.wait(self._seconds / 10):
            store.key_value_set(mine, str(self._steps), allow_overwrite=True)
            still = time.monotonic() - self._moved
            if still > self._seconds:
                found = store.key_value_dir_get("dictlearn/steps/")
                steps = {int(key.rpartition("/")[2]): int(value) for key, value in found}
                _exit(EX_TEMPFAIL, _hung(self._steps, still, steps))


def _hung(mine: int, still: float, steps: Mapping[int, int]) -> str:
    least = min(steps.values())
    behind = ", ".join(str(process) for process in sorted(steps) if steps[process] == least)
    return (
        f"step {mine + 1} since the start has not ended for {still:.0f} s. Fewest steps, {least}, has "
        f"process {behind} of {len(steps)}: look there first. --step_timeout sets the time."
    )


def _late(place: Place, timeout: float) -> str:
    said = f"not all processes have connected in {timeout:.0f} s: "
    if place.coordinator is None or place.processes is None:
        return said + "see the others' logs for one that did not start."
    host, _, port = place.coordinator.rpartition(":")
    if place.process == 0:
        return said + (
            f"process 0 waits at port {port} for 1 to {place.processes - 1}, each of which needs "
            f"--processes={place.processes}, a --process of its own, and a route to {host}."
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except OSError as error:
        return (
            said + f"nothing answers at {place.coordinator} ({error}), where process 0 should be."
        )
    return said + f"process 0 answers at {place.coordinator}, so another one has not started."


def _exit(status: int, message: str = "") -> None:
    if message:
        print(f"dictlearn: error: {message}", file=sys.stderr)
    sys.stderr.flush()
    sys.stdout.flush()
    os._exit(status)


def _number(given: int | None, name: str, environment: Mapping[str, str]) -> int | None:
    if given is not None or name not in environment:
        return given
    try:
        return int(environment[name])
    except ValueError:
        raise ValueError(f"{name}={environment[name]!r} must be a whole number.") from None


def _managed(environment: Mapping[str, str]) -> bool:
    """Whether the launcher of this process started several."""
    for names in MANAGED:
        if all(name in environment for name in names):
            return int(environment[names[0]]) > 1
    hosts = environment.get("TPU_PROCESS_ADDRESSES") or environment.get("TPU_WORKER_HOSTNAMES", "")
    several = re.fullmatch(r"[\w.:-]+(,[\w.:-]+)+", hosts) is not None
    return several and "tpu" in environment.get("JAX_PLATFORMS", "tpu")


def _on_tpu(environment: Mapping[str, str]) -> bool:
    """Whether this is a TPU VM, which may be one of several; JAX asks its metadata server."""
    if "tpu" not in environment.get("JAX_PLATFORMS", "tpu") or "TPU_SKIP_MDS_QUERY" in environment:
        return False
    if environment.get("TPU_WORKER_HOSTNAMES"):
        return False
    chips = glob.glob("/dev/accel[0-9]*") or glob.glob("/dev/vfio/[0-9]*")
    return bool(chips) and importlib.util.find_spec("libtpu") is not None
