"""A damaged or unfinished checkpoint is named in a warning, and the one before it is used."""

import gc
import json
import shutil
from pathlib import Path

import pytest

from dictlearn.runs._seal import SEAL
from dictlearn.runs.checkpoint import Checkpoints
from dictlearn.runs.workdir import read_records
from tests.runs.states import (
    delete,
    files_in,
    flip,
    like,
    names_in,
    restored_step,
    save_steps,
    sha256sum,
    state_at,
    truncate,
)


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


@pytest.mark.parametrize("odd", [[], 3, None, {"a": 3}, {"a": {}}, {"a": {"hparams": 3}}])
def test_records_that_are_none_are_named(tmp_path, odd):
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps(odd))
    with pytest.raises(ValueError, match=r"metrics\.json"):
        read_records(path)
