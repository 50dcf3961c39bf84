"""A checkpoint comes back exactly, or is passed over aloud for the one before it."""

import gc
import hashlib
import os
import random
import resource
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from dictlearn.runs import _seal
from dictlearn.runs._seal import SEAL
from dictlearn.runs.checkpoint import Checkpoints, versions

ROOT = Path(_seal.__file__).parents[2]


def state_at(step, *, d=8):
    """A small state of every kind of leaf, different at every step."""
    W_DF = jax.random.normal(jax.random.key(step), (d, 16))
    params = {"W_enc_DF": W_DF, "b_enc_F": jnp.full(16, step, jnp.bfloat16)}
    return {
        "params": params,
        "rule": optax.adam(1e-3).init(params),
        "count_F": jnp.arange(16, dtype=jnp.int32) * step,
        "keys_N": jax.random.split(jax.random.key(step + 100), 3),
        "nothing": None,
    }


def assert_equal(found, wanted):
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert a.dtype == b.dtype
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def like(state):
    """A target that is `state`, whatever the meta says."""
    return lambda meta: state


def save_steps(directory, *steps, keep=3):
    with Checkpoints(directory, keep=keep) as checkpoints:
        for step in steps:
            checkpoints.save(step, state_at(step), {"position": step})
    return directory


def restored_step(directory, *, d=8):
    """The step that `restore` finds, its values checked against that step's."""
    with Checkpoints(directory) as checkpoints:
        found = checkpoints.restore(like(state_at(0, d=d)))
    if found is None:
        return None
    step, state, meta = found
    assert meta == {"position": step}
    assert_equal(state, state_at(step, d=d))
    return step


def files_in(path):
    return sorted(file for file in path.rglob("*") if file.is_file())


def names_in(directory):
    return sorted(path.name for path in directory.iterdir())


def flip(file):
    content = bytearray(file.read_bytes() or b"\0")
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def truncate(file):
    file.write_bytes(file.read_bytes()[:-1])


def delete(file):
    file.unlink()


@pytest.fixture(scope="module")
def two_steps(tmp_path_factory):
    return save_steps(tmp_path_factory.mktemp("two_steps"), 1, 2)


@pytest.fixture
def copy(two_steps, tmp_path):
    return Path(shutil.copytree(two_steps, tmp_path / "copy"))


def test_a_state_and_its_meta_come_back_exactly(tmp_path):
    meta = {"stream": {"block": 7, "seed": 2**60}, "config": {"lr": 1e-3, "taps": ["resid.7"]}}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(5, state_at(5), meta)
        found = checkpoints.restore(like(jax.eval_shape(lambda: state_at(0))))
    assert found is not None
    step, state, found_meta = found
    assert (step, found_meta) == (5, meta)
    assert_equal(state, state_at(5))


def test_the_meta_of_the_checkpoint_it_fills_decides_the_target(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        for step, d in ((1, 8), (2, 9)):
            checkpoints.save(step, state_at(step, d=d), {"d": d})
        for step, d in ((2, 9), (1, 8)):
            found = checkpoints.restore(lambda meta: state_at(0, d=meta["d"]))
            assert found is not None
            assert_equal(found[1], state_at(step, d=d))
            flip(tmp_path / "2" / SEAL)


def test_the_state_may_be_donated_and_the_meta_changed_right_after_save(tmp_path):
    add = jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf + 1, tree), donate_argnums=0)
    mesh = jax.make_mesh((8,), ("model",), axis_types=(AxisType.Auto,))
    state = {
        "W_FD": jax.device_put(jnp.zeros((8192, 256)), NamedSharding(mesh, P("model"))),
        "b_F": jnp.zeros(8192),
    }
    with Checkpoints(tmp_path, keep=5) as checkpoints:
        for step in range(5):
            meta = {"position": step}
            checkpoints.save(step, state, meta)
            meta["position"] = -1
            state = add(add(state))
        jax.block_until_ready(state)
    for step in reversed(range(5)):
        with Checkpoints(tmp_path) as checkpoints:
            found = checkpoints.restore(like(state))
        assert found is not None
        assert (found[0], found[2]) == (step, {"position": step})
        assert all(np.all(np.asarray(leaf) == 2 * step) for leaf in jax.tree.leaves(found[1]))
        shutil.rmtree(tmp_path / str(step)) if step else None


@pytest.fixture
def hashing(monkeypatch):
    """Two events: hashing `began`, and hashing `may_go_on`, which it waits for, if not for ever."""
    began, may_go_on = threading.Event(), threading.Event()
    sha256 = _seal._sha256

    def held(path):
        began.set()
        may_go_on.wait(timeout=10)
        return sha256(path)

    monkeypatch.setattr(_seal, "_sha256", held)
    return began, may_go_on


def test_save_returns_before_the_checkpoint_is_sealed(tmp_path, hashing):
    _, may_go_on = hashing
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state_at(1), {"position": 1})
        assert not (tmp_path / "1" / SEAL).exists()
        may_go_on.set()
        checkpoints.wait()
        assert (tmp_path / "1" / SEAL).exists()


def test_the_seal_is_what_sha256sum_would_write(two_steps):
    step = two_steps / "2"
    assert (step / SEAL).read_text() == sha256sum(step)


def sha256sum(step):
    names = sorted(str(file.relative_to(step)) for file in files_in(step) if file.name != SEAL)
    digests = [hashlib.sha256((step / name).read_bytes()).hexdigest() for name in names]
    return "".join(f"{d}  {n}\n" for d, n in zip(digests, names, strict=True))


def test_only_the_newest_steps_are_kept_with_their_seals(tmp_path):
    save_steps(tmp_path, 1, 2, 30, 4000, 50000, keep=2)
    assert names_in(tmp_path) == ["4000", "50000"]
    assert all((tmp_path / name / SEAL).exists() for name in names_in(tmp_path))


def test_a_step_is_removed_only_when_the_one_after_it_is_sealed(tmp_path, hashing):
    began, may_go_on = hashing
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        may_go_on.set()
        checkpoints.save(1, state_at(1), {"position": 1})
        checkpoints.wait()
        began.clear()
        may_go_on.clear()
        checkpoints.save(2, state_at(2), {"position": 2})
        assert began.wait(timeout=10)
        assert names_in(tmp_path) == ["1", "2"]
        may_go_on.set()
    assert names_in(tmp_path) == ["2"]


@pytest.mark.parametrize("damage", [flip, truncate, delete])
def test_damage_to_any_file_is_named_and_the_step_before_is_used(
    two_steps, tmp_path, caplog, damage
):
    files = files_in(two_steps / "2")
    assert len(files) > 8
    for number, file in enumerate(files):
        if damage is truncate and not file.stat().st_size:
            continue
        copy = Path(shutil.copytree(two_steps, tmp_path / str(number)))
        name = file.relative_to(two_steps / "2")
        damage(copy / "2" / name)
        caplog.clear()
        assert restored_step(copy) == 1, name
        assert f"skipping checkpoint {copy / '2'}: " in caplog.text
        assert file.name in caplog.text


def test_a_flip_anywhere_in_the_seal_is_seen(copy):
    seal = copy / "2" / SEAL
    content = seal.read_bytes()
    for place in range(0, len(content), 40):
        for bit in (1, 32):
            damaged = bytearray(content)
            damaged[place] ^= bit
            seal.write_bytes(damaged)
            assert restored_step(copy) == 1, place
    seal.write_bytes(content)
    assert restored_step(copy) == 2


def test_a_file_too_many_is_damage(copy, caplog):
    (copy / "2" / "state" / "notes.txt").write_text("hello")
    assert restored_step(copy) == 1
    assert "state/notes.txt is not listed in" in caplog.text


# Orbax abandons its reads of the other arrays when one fails, and these complain when collected.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "name", ["state/manifest.ocdbt", "state/_METADATA", "_CHECKPOINT_METADATA"]
)
def test_a_sealed_checkpoint_that_orbax_cannot_load_is_passed_over(copy, caplog, name):
    step = copy / "2"
    delete(step / name)
    (step / SEAL).write_text(sha256sum(step))
    assert restored_step(copy) == 1
    ours = [record.getMessage() for record in caplog.records if record.name == "dictlearn"]
    assert len(ours) == 1
    assert ours[0].startswith(f"skipping checkpoint {step}: Orbax cannot load it: ")
    assert "tensorstore_spec" not in ours[0]
    gc.collect()


def test_a_step_killed_before_its_seal_is_passed_over(copy, caplog):
    (copy / "2" / SEAL).rename(copy / "2" / f"{SEAL}.tmp")
    assert restored_step(copy) == 1
    assert f"skipping checkpoint {copy / '2'}: it has no {SEAL}" in caplog.text


def test_what_a_killed_write_left_is_passed_over_and_removed_by_the_next_save(copy, caplog):
    leftover = copy / "3.orbax-checkpoint-tmp"
    shutil.copytree(copy / "2", leftover)
    with Checkpoints(copy) as checkpoints:
        found = checkpoints.restore(like(state_at(0)))
        assert found is not None
        assert found[0] == 2
        assert f"skipping checkpoint {leftover}: its writing was interrupted" in caplog.text
        assert leftover.exists()
        checkpoints.save(4, state_at(4), {"position": 4})
    assert names_in(copy) == ["1", "2", "4"]


def test_a_damaged_step_stays_until_it_is_saved_again(copy):
    flip(copy / "2" / "state" / "_METADATA")
    damaged = (copy / "2" / "state" / "_METADATA").read_bytes()
    with Checkpoints(copy) as checkpoints:
        assert checkpoints.restore(like(state_at(0))) is not None
        assert (copy / "2" / "state" / "_METADATA").read_bytes() == damaged
        checkpoints.save(2, state_at(2), {"position": 2})
    assert restored_step(copy) == 2


def test_damaged_steps_never_displace_the_steps_of_the_resumed_run(tmp_path):
    save_steps(tmp_path, 10, 20, 30, keep=3)
    flip(tmp_path / "20" / SEAL)
    flip(tmp_path / "30" / SEAL)
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        assert checkpoints.restore(like(state_at(0))) is not None
        checkpoints.save(15, state_at(15), {"position": 15})
    assert names_in(tmp_path) == ["10", "15"]
    assert restored_step(tmp_path) == 15


def test_a_directory_where_all_is_damaged_is_an_error_that_says_where(copy):
    flip(copy / "1" / SEAL)
    delete(copy / "2" / SEAL)
    with (
        Checkpoints(copy) as checkpoints,
        pytest.raises(RuntimeError, match=rf"{copy}.*\[1, 2\]"),
    ):
        checkpoints.restore(like(state_at(0)))


def test_no_checkpoints_are_none(tmp_path):
    assert restored_step(tmp_path / "new") is None


def test_a_run_killed_in_its_first_save_starts_over(tmp_path, caplog):
    save_steps(tmp_path, 3)
    delete(tmp_path / "3" / SEAL)
    assert restored_step(tmp_path) is None
    assert str(tmp_path / "3") in caplog.text
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.restore(like(state_at(0))) is None
        checkpoints.save(3, state_at(3), {"position": 3})
    assert restored_step(tmp_path) == 3


def test_a_state_of_another_shape_dtype_or_tree_is_an_error_that_names_the_leaf(two_steps):
    wanted = {
        r"params/W_enc_DF\b.*float32\[8, 16\].*float32\[9, 16\]": state_at(0, d=9),
        r"count_F\b.*int32\[16\].*float32\[16\]": {
            **state_at(0),
            "count_F": jnp.zeros(16),
        },
        r"more\b.*absent.*float32\[\]": {**state_at(0), "more": jnp.zeros(())},
        r"keys_N\b.*key<fry>\[3\].*absent": {**state_at(0), "keys_N": None},
    }
    for message, state in wanted.items():
        with Checkpoints(two_steps) as checkpoints, pytest.raises(ValueError, match=message):
            checkpoints.restore(like(state))


def test_a_checkpoint_moves_to_another_mesh(tmp_path):
    W_FD = np.arange(64 * 8, dtype=np.float32).reshape(64, 8)
    flat = jax.make_mesh((8,), ("model",), axis_types=(AxisType.Auto,))
    square = jax.make_mesh((2, 4), ("data", "model"), axis_types=(AxisType.Auto,) * 2)
    one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    homes = [
        (NamedSharding(flat, P("model")), NamedSharding(flat, P())),
        (NamedSharding(square, P("model", "data")), NamedSharding(square, P())),
        (one, one),
    ]
    with Checkpoints(tmp_path) as checkpoints:
        state = {"W_FD": W_FD, "key": jax.random.key(3)}
        for step, (home, key_home) in enumerate(homes):
            target = {
                "W_FD": jax.ShapeDtypeStruct((64, 8), jnp.float32, sharding=home),
                "key": jax.ShapeDtypeStruct((), state["key"].dtype, sharding=key_home),
            }
            if step:
                found = checkpoints.restore(like(target))
                assert found is not None
                state = found[1]
                assert state["W_FD"].sharding == home
                assert state["key"].sharding == key_home
                assert_equal(state, {"W_FD": W_FD, "key": jax.random.key(3)})
            state = jax.device_put(state, {"W_FD": home, "key": key_home})
            checkpoints.save(step, state, {})


def test_saving_the_newest_step_again_leaves_it_alone(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state_at(1), {"position": 1})
        checkpoints.save(1, state_at(7), {"position": 7})
    assert restored_step(tmp_path) == 1


def test_a_save_that_would_shadow_or_overwrite_checkpoints_is_refused(copy):
    with Checkpoints(copy) as checkpoints:
        with pytest.raises(ValueError, match="holds checkpoints: restore first, or empty it"):
            checkpoints.save(1, state_at(1), {})
        assert checkpoints.restore(like(state_at(0))) is not None
        with pytest.raises(ValueError, match=r"step=1\b.*\b2\b"):
            checkpoints.save(1, state_at(1), {})
    with Checkpoints(copy / "new") as checkpoints, pytest.raises(ValueError, match="step=-1"):
        checkpoints.save(-1, state_at(1), {})
    with pytest.raises(ValueError, match=r"keep=0\b.*\b1\b"):
        Checkpoints(copy, keep=0)


def test_what_no_checkpoint_can_hold_is_refused_at_save(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.raises(TypeError, match=r"\blr\b.*0\.1"):
            checkpoints.save(1, {"lr": 0.1}, {})
        with pytest.raises(TypeError, match="not JSON serializable"):
            checkpoints.save(1, state_at(1), {"mean_D": jnp.zeros(3)})


def test_a_full_disk_is_an_error_of_the_next_call_and_leaves_the_rest_intact(tmp_path):
    one, two = state_at(1, d=2048), state_at(2, d=2048)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, one, {"position": 1})
        checkpoints.wait()
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
        try:
            checkpoints.save(2, two, {"position": 2})
            with pytest.raises(RuntimeError, match=r"\b2\b.*large") as caught:
                checkpoints.wait()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert str(tmp_path / "2") in str(caught.value)
        assert "\n" not in str(caught.value)
        checkpoints.wait()
        assert restored_step(tmp_path, d=2048) == 1
        checkpoints.save(2, two, {"position": 2})
        checkpoints.close()
        checkpoints.close()
    assert restored_step(tmp_path, d=2048) == 2
    assert names_in(tmp_path) == ["1", "2"]


def test_versions_are_those_that_run():
    found = versions()
    assert found["jax"] == jax.__version__
    assert found["numpy"] == np.__version__
    assert {"dictlearn", "jaxlib", "flax", "optax", "orbax-checkpoint", "python"} < found.keys()


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
