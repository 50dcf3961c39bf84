"""Every launcher runs `dictlearn train` with the arguments it is given, and nothing else."""

import os
import shlex
import subprocess
import sys
import time

import pytest

from tests.launch.kills import CONFIG, ROOT, planted

LAUNCH = ROOT / "launch"
ARGUMENTS = ["--config=experiments/planted.py", "--workdir=/bucket/a run"]


def run(command, status=0, cwd=ROOT, **environment) -> str:
    found = subprocess.run(
        [str(word) for word in command],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        cwd=cwd,
        check=False,
    )
    assert found.returncode == status, found.stdout + found.stderr
    return found.stdout


def test_local_prints_a_command_a_process():
    options = ["--processes=2", "--devices=4", "--dry-run", "--"]
    said = run([sys.executable, LAUNCH / "local.py", *options, *ARGUMENTS])
    words = [shlex.split(line) for line in said.splitlines()]
    assert [w[-3:] for w in words] == [[f"--process={i}", *ARGUMENTS] for i in range(2)]
    assert all("JAX_NUM_CPU_DEVICES=4" in w and "train" in w for w in words)
    assert len({w[-5] for w in words}) == 1, "one coordinator"


@pytest.mark.parametrize(
    "words", ["tpu_vm.sh name zone v5p-8", "gke.sh name cluster zone v5p-8 image"]
)
def test_the_scripts_for_tpus_hand_the_arguments_on_through_another_shell(words):
    name, *given = words.split()
    said = run([LAUNCH / name, *given, *ARGUMENTS], DRY_RUN="1")
    command = shlex.split(said.splitlines()[-1])[-1].partition("=")[2]
    inner = shlex.split(command)
    assert inner[-4:] == ["train", "--coordinator=auto", *ARGUMENTS]
    run([LAUNCH / name], status=2)


KILLED = "os.kill(os.getpid(), signal.SIGKILL)"
LATER = "time.sleep(0.5)\n"


@pytest.mark.parametrize(
    ("end", "starts", "status"),
    [
        ("sys.exit(75)", 3, 75),
        (KILLED, 3, 75),
        ("sys.exit(1)", 1, 1),
        ("sys.exit(0)", 1, 0),
        # What ends first is the cause: the other one only waited for it.
        (f"{KILLED}\n{LATER}sys.exit(1)", 3, 75),
        (f"sys.exit(1)\n{LATER}{KILLED}", 1, 1),
    ],
)
def test_local_starts_again_what_a_restart_can_mend(end, starts, status, tmp_path):
    package = tmp_path / "dictlearn"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "cli.py").write_text(
        f"import os, signal, sys, time\nopen({str(tmp_path / 'log')!r}, 'a').write('x')\n"
        f"if '--process=1' in sys.argv:\n  {end}\nsys.exit(0)\n"
    )
    command = [sys.executable, LAUNCH / "local.py", "--processes=2", "--restarts=2", "--", "--x"]
    run(command, status, cwd=tmp_path)
    assert (tmp_path / "log").read_text() == "xx" * starts


def test_local_hands_sigterm_on_and_does_not_start_again(tmp_path):
    package, log = tmp_path / "dictlearn", tmp_path / "log"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "cli.py").write_text(
        "import signal, sys\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))\n"
        f"open({str(log)!r}, 'a').write('x')\nsignal.pause()\n"
    )
    command = [sys.executable, str(LAUNCH / "local.py"), "--processes=2"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL) as process:
        while not log.exists() or log.read_text() != "xx":
            time.sleep(0.02)
        process.terminate()
        assert process.wait(30) == 75
    assert log.read_text() == "xx"


def test_slurm_runs_a_job_of_two_tasks_to_the_end(tmp_path):
    config, script = tmp_path / "planted.py", tmp_path / "dictlearn"
    config.write_text(CONFIG.format(planted(steps=20, every=10)))
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m dictlearn.cli "$@"\n')
    script.chmod(0o755)
    command = ["timeout", "280", ROOT / "tests/launch/slurm.sh", "sbatch", "--wait", "--ntasks=2"]
    command += [f"--output={tmp_path / 'log'}", LAUNCH / "slurm.sbatch"]
    command += [f"--config={config}", f"--workdir={tmp_path / 'run'}"]
    cpu = {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "2", "PYTHONPATH": str(ROOT)}
    environment = {**os.environ, **cpu, "DICTLEARN": str(script)}
    found = subprocess.run(
        [str(word) for word in command],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if found.returncode == 77:
        pytest.skip(f"NO SLURM WAS TESTED. {found.stderr.strip()}")
    log = tmp_path / "log"
    assert found.returncode == 0, found.stderr + (log.read_text() if log.exists() else "")
    assert (tmp_path / "run" / "metrics.json").exists()
    assert "Rank 1 is connected to 1 peer ranks" in log.read_text(), "two tasks, each by itself"
