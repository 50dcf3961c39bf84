"""Checkpoints of a process that is killed at any moment, and of two processes."""

import os
import random
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp

from dictlearn.runs import _seal
from dictlearn.runs.checkpoint import Checkpoints
from tests.runs.states import assert_equal, like

ROOT = Path(_seal.__file__).parents[2]


def start(program, *arguments):
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


SAVE_FOREVER = """
import sys
import jax, jax.numpy as jnp
from dictlearn.runs.checkpoint import Checkpoints

def state_at(step):
    return {"W_FD": jnp.full((256, 256), step, jnp.float32), "key": jax.random.key(step)}

with Checkpoints(sys.argv[1], keep=2) as checkpoints:
    found = checkpoints.restore(lambda meta: state_at(0))
    step = found[0] if found else 0
    while True:
        step += 1
        checkpoints.save(step, state_at(step), {"position": step})
        print(step, flush=True)
"""


def test_a_run_killed_at_any_moment_leaves_a_step_with_exactly_its_values(tmp_path):
    chance = random.Random(0)
    for _ in range(4):
        with start(SAVE_FOREVER, tmp_path) as process:
            assert process.stdout is not None
            saved = [int(process.stdout.readline()) for _ in range(3)]
            time.sleep(0.1 * chance.random())
            process.kill()
            saved += [int(line) for line in process.stdout]
        with Checkpoints(tmp_path) as checkpoints:
            wanted = {"W_FD": jnp.zeros((256, 256)), "key": jax.random.key(0)}
            found = checkpoints.restore(like(wanted))
        assert found is not None
        step, state, meta = found
        assert saved[-1] - 1 <= step <= saved[-1] + 1
        assert meta == {"position": step}
        W_FD = jnp.full((256, 256), float(step))
        assert_equal(state, {"W_FD": W_FD, "key": jax.random.key(step)})


TWO_PROCESSES = """
import sys
from pathlib import Path
import jax, jax.numpy as jnp, numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from dictlearn.runs._seal import SEAL
from dictlearn.runs.checkpoint import Checkpoints

directory, address, process = sys.argv[1], sys.argv[2], int(sys.argv[3])
jax.config.update("jax_num_cpu_devices", 2)
jax.distributed.initialize(address, 2, process)
mesh = jax.make_mesh((2, 2), ("data", "model"), axis_types=(AxisType.Auto,) * 2)

def state_at(step, spec):
    W_FD = np.arange(64, dtype=np.float32).reshape(16, 4) + step
    home = NamedSharding(mesh, spec)
    return {"W_FD": jax.make_array_from_callback((16, 4), home, lambda index: W_FD[index])}

with Checkpoints(directory, keep=2) as checkpoints:
    for step in (1, 2, 3):
        checkpoints.save(step, state_at(step, P("model", "data")), {"position": step})
multihost_utils.sync_global_devices("saved")
if process == 0:
    assert sorted(path.name for path in Path(directory).iterdir()) == ["2", "3"]
    (Path(directory) / "3" / SEAL).write_text("nonsense")
    (Path(directory) / "3.orbax-checkpoint-tmp" / "state").mkdir(parents=True)
multihost_utils.sync_global_devices("damaged")
with Checkpoints(directory, keep=2) as checkpoints:
    step, state, meta = checkpoints.restore(lambda meta: state_at(0, P("data")))
    assert (step, meta) == (2, {"position": 2})
    for shard in state["W_FD"].addressable_shards:
        wanted = np.arange(64, dtype=np.float32).reshape(16, 4)[shard.index] + 2
        np.testing.assert_array_equal(shard.data, wanted)
    checkpoints.save(3, state, {"position": 3})
with Checkpoints(directory) as checkpoints:
    assert checkpoints.restore(lambda meta: state_at(0, P()))[0] == 3
"""


def test_two_processes_save_and_restore_the_same_step(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    processes = [start(TWO_PROCESSES, tmp_path, address, process) for process in range(2)]
    try:
        errors = [process.communicate(timeout=60)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(errors)
