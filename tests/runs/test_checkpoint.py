"""A checkpoint comes back exactly, on any mesh, and what cannot be saved is refused."""

import resource
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from dictlearn.runs._seal import SEAL
from dictlearn.runs.checkpoint import Checkpoints, versions
from tests.runs.states import (
    assert_equal,
    delete,
    flip,
    like,
    names_in,
    restored_step,
    save_steps,
    sha256sum,
    state_at,
)


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
