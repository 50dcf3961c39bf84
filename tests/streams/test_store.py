"""The store: every row once, damage named, and a killed writer continued to the same bytes."""

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from dictlearn import streams
from dictlearn.normalise import estimate
from dictlearn.streams import _store_write, store
from dictlearn.types import Batch
from tests.streams.numbered import ROWS, WIDTHS, numbered, write_store


def open_store(path, tap="resid.0", target=None, batch_size=16, block_rows=8, **arguments):
    return streams.make(
        "store",
        path=path,
        tap=tap,
        target=target,
        batch_size=batch_size,
        block_rows=block_rows,
        seed=0,
        **arguments,
    )


def fails(error, match, *args, **kwargs):
    with pytest.raises(error, match=match) as caught:
        open_store(*args, **kwargs)
    assert "\n" not in str(caught.value)


def contents(path):
    return {file.name: file.read_bytes() for file in Path(path).iterdir()}


@pytest.fixture
def copy(store_path, tmp_path):
    return Path(shutil.copytree(store_path, tmp_path / "copy"))


@pytest.mark.parametrize("block_rows", [1, 8, 100])
def test_an_epoch_is_every_row_but_the_last_partial_block(store_path, block_rows):
    stream = open_store(store_path, batch_size=block_rows, block_rows=block_rows)
    n_blocks = ROWS // block_rows
    assert stream.n_rows == n_blocks * block_rows
    epoch = np.concatenate([stream.batches[step].x_BD for step in range(n_blocks)])
    order = epoch[:, 0].astype(int)
    assert sorted(order) == list(range(stream.n_rows))
    np.testing.assert_array_equal(epoch, numbered(5)[order])


def test_a_block_may_span_shards(tmp_path):
    stream = open_store(write_store(tmp_path / "s", shards=90), batch_size=50, block_rows=50)
    for step in range(ROWS // 50):
        row = stream.batches[step].x_BD[:, 0].astype(int)
        np.testing.assert_array_equal(row, row[0] + np.arange(50))


def test_a_batch_holds_blocks_from_many_shards(tmp_path):
    stream = open_store(write_store(tmp_path / "s", shards=4), batch_size=512)
    quarters = stream.batches[0].x_BD[:, 0] // (ROWS / 4)
    assert np.bincount(quarters.astype(int)).min() > 60


def test_a_transcoder_reads_two_taps_of_the_same_tokens(store_path):
    stream = open_store(store_path, target="mlp_out.0")
    batch = stream.batches[5]
    assert (stream.d_in, stream.d_out) == (5, 3)
    np.testing.assert_array_equal(batch.x_BD[:, 0], batch.y_BD[:, 0])


def test_the_norm_is_that_of_every_row(store_path):
    stream = open_store(store_path, target="mlp_out.0", normalise="unit_mean_sq")
    expected = estimate("unit_mean_sq", [Batch(numbered(5), numbered(3))])
    assert stream.norm.scale_in == pytest.approx(expected.scale_in, rel=1e-6)
    assert stream.norm.scale_out == pytest.approx(expected.scale_out, rel=1e-6)
    raw, normed = (s.batches[2] for s in (open_store(store_path, target="mlp_out.0"), stream))
    np.testing.assert_allclose(normed.y_BD, raw.y_BD * expected.scale_out, rtol=1e-6)


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16])
def test_narrow_dtypes_read_as_their_float32_value(tmp_path, dtype):
    stream = open_store(write_store(tmp_path / "s", shards=1, dtype=dtype), batch_size=8)
    batch = stream.batches[0].x_BD
    held = {bytes(row) for row in numbered(5, dtype).astype(np.float32)}
    assert batch.dtype == np.float32
    assert all(bytes(row) in held for row in batch)


def test_shards_are_ordinary_safetensors(store_path):
    with safe_open(store_path / "shard_00001.safetensors", "numpy") as file:
        assert set(file.keys()) == {*WIDTHS, "sequence_R", "position_R"}
    tensors = load_file(store_path / "shard_00001.safetensors")
    row = 10 * tensors["sequence_R"] + tensors["position_R"]
    np.testing.assert_array_equal(tensors["resid.0"], numbered(5)[row])
    mapped = store.map_tensors(store_path, "shard_00001.safetensors")
    assert all(np.array_equal(mapped[name], tensors[name]) for name in tensors)


def test_tokens_are_read_back_verified(copy):
    tokens_ST, mask_ST = store.tokens(copy, "held_out")
    assert (tokens_ST[0, 0], tokens_ST.dtype, mask_ST.dtype) == (1, np.int32, np.bool_)
    with pytest.raises(ValueError, match=r"split='test'.*train"):
        store.tokens(copy, "test")
    flip(copy / "tokens_held_out.safetensors")
    with pytest.raises(ValueError, match=r"tokens_held_out.*sha256"):
        store.tokens(copy, "held_out")


def test_reading_writes_nothing(copy):
    before = {file.name: file.stat().st_mtime_ns for file in copy.iterdir()}
    stream = open_store(copy)
    batch = stream.batches[0]
    batch.x_BD[:] = 0
    assert {file.name: file.stat().st_mtime_ns for file in copy.iterdir()} == before
    assert stream.batches[0].x_BD.any()
    with pytest.raises(ValueError, match="read-only"):
        store.map_tensors(copy, "shard_00000.safetensors")["resid.0"][0] = 0


def flip(file):
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def test_a_missing_store_says_what_makes_one(tmp_path):
    fails(FileNotFoundError, r"nowhere does not exist.*dictlearn harvest", tmp_path / "nowhere")


def test_an_unfinished_store_says_so(copy):
    (copy / "manifest.json").rename(copy / "partial.json")
    fails(FileNotFoundError, r"copy is not finished.*dictlearn harvest", copy)


def test_a_missing_shard_is_named(copy):
    (copy / "shard_00001.safetensors").unlink()
    fails(ValueError, r"shard_00001\.safetensors is missing", copy)


@pytest.mark.parametrize("verify", [True, False])
def test_a_truncated_shard_is_named(copy, verify):
    file = copy / "shard_00002.safetensors"
    file.write_bytes(file.read_bytes()[:-4])
    fails(ValueError, r"shard_00002\.safetensors has \d+ bytes, not", copy, verify=verify)


def test_a_flipped_bit_is_named_unless_hashing_is_skipped(copy):
    flip(copy / "shard_00000.safetensors")
    fails(ValueError, r"shard_00000\.safetensors does not match its sha256", copy)
    open_store(copy, verify=False)


def test_a_damaged_shard_is_mended_as_the_error_says(copy, store_path):
    flip(copy / "shard_00001.safetensors")
    (copy / "manifest.json").rename(copy / "partial.json")
    write_store(copy)
    assert contents(copy) == contents(store_path)


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 1}'])
def test_a_damaged_manifest_is_named(copy, text):
    (copy / "manifest.json").write_text(text)
    fails(ValueError, r"manifest\.json is damaged", copy)


def edit(path, change):
    manifest = json.loads((path / "manifest.json").read_text())
    change(manifest)
    (path / "manifest.json").write_text(json.dumps(manifest))


def test_another_format_is_refused(copy):
    edit(copy, lambda manifest: manifest.update(format=99))
    fails(ValueError, "format 99, and this version reads 1", copy)


@pytest.mark.parametrize("name", ["../copy/shard_00000.safetensors", "/etc/passwd", "..", "a/b"])
def test_a_shard_name_cannot_leave_the_folder(copy, name):
    def change(manifest):
        manifest["shards"] = {name: manifest["shards"]["shard_00000.safetensors"]}

    edit(copy, change)
    fails(ValueError, "not a file inside it", copy)


def test_an_unknown_tap_lists_the_taps(store_path):
    fails(ValueError, r"no tap 'resid.9'.*resid\.0.*mlp_out\.0", store_path, tap="resid.9")
    fails(ValueError, r"no tap 'resid.9'", store_path, target="resid.9")
    fails(ValueError, r"choose stream.tap from.*resid\.0", store_path, tap=None)


def test_per_token_kinds_refuse_a_transcoder(store_path):
    fails(ValueError, "transcoder", store_path, target="mlp_out.0", normalise="token_unit")


class Killed(BaseException):
    """What a kill looks like from inside: nothing catches it, nothing is tidied up."""


def kill_at(call, monkeypatch):
    """Die at the n-th flush or rename."""
    count = 0

    def dying(function):
        def step(*args):
            nonlocal count
            count += 1
            if count == call:
                raise Killed
            return function(*args)

        return step

    monkeypatch.setattr(os, "fsync", dying(os.fsync))
    monkeypatch.setattr(os, "replace", dying(os.replace))


def dies_at(call, path):
    with pytest.MonkeyPatch.context() as monkeypatch:
        kill_at(call, monkeypatch)
        try:
            write_store(path)
        except Killed:
            return True
    return False


def test_a_writer_killed_anywhere_is_continued_to_the_same_bytes(store_path, tmp_path):
    expected, call = contents(store_path), 1
    while dies_at(call, tmp_path / str(call)):
        assert contents(write_store(tmp_path / str(call))) == expected
        call += 1
    assert call > 30


def test_a_continued_writer_keeps_what_is_intact(copy):
    kept, damaged = copy / "shard_00000.safetensors", copy / "shard_00001.safetensors"
    (copy / "manifest.json").rename(copy / "partial.json")
    flip(damaged)
    before = kept.stat().st_mtime_ns, damaged.stat().st_mtime_ns
    write_store(copy)
    assert kept.stat().st_mtime_ns == before[0]
    assert damaged.stat().st_mtime_ns != before[1]


def test_sigkill_in_the_middle_of_a_shard(store_path, tmp_path):
    script = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
import numbered
count, fsync = 0, os.fsync
def dying(descriptor):
    global count
    count += 1
    if count == 15:
        os.kill(os.getpid(), signal.SIGKILL)
    fsync(descriptor)
os.fsync = dying
from pathlib import Path
numbered.write_store(Path(sys.argv[2]))
"""
    path = tmp_path / "killed"
    command = [sys.executable, "-c", script, str(Path(__file__).parent), str(path)]
    root = str(Path(streams.__file__).parents[2])
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": root}, check=False)
    assert done.returncode == -signal.SIGKILL
    assert (path / "partial.json").exists()
    assert any(file.suffix == ".tmp" for file in path.iterdir())
    assert contents(write_store(path)) == contents(store_path)


def test_a_full_disk_is_said_plainly_and_leaves_no_litter(tmp_path, monkeypatch):
    path, fsync = tmp_path / "s", os.fsync
    manifest = _store_write.begin(path, {"taps": WIDTHS, "seed": 0})

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    mask = np.ones((4, 10), bool)
    with pytest.raises(OSError, match=r"tokens_train.*No space left") as caught:
        _store_write.add_tokens(path, manifest, "train", mask.astype(np.int32), mask)
    assert caught.value.errno == errno.ENOSPC
    assert [file.name for file in path.iterdir()] == ["partial.json"]
    monkeypatch.setattr(os, "fsync", fsync)
    write_store(path)
    open_store(path)


def test_a_complete_store_is_left_as_it_is(copy):
    before = {file.name: file.stat().st_mtime_ns for file in copy.iterdir()}
    write_store(copy)
    assert {file.name: file.stat().st_mtime_ns for file in copy.iterdir()} == before


@pytest.mark.parametrize("manifest", ["manifest.json", "partial.json"])
def test_another_recipe_is_refused_and_nothing_overwritten(copy, manifest):
    (copy / "manifest.json").rename(copy / manifest)
    before = contents(copy)
    with pytest.raises(ValueError, match=r"\bseed\b.*\b0\b.*\b1\b"):
        write_store(copy, seed=1)
    assert contents(copy) == before


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(ValueError, match="files that are not a store"):
        write_store(tmp_path)
    assert contents(tmp_path) == {"thesis.tex": b"precious"}


def test_the_manifest_describes_its_files(store_path):
    manifest = store.open_manifest(store_path)
    for name, entry in {**manifest["tokens"], **manifest["shards"]}.items():
        data = (store_path / name).read_bytes()
        assert entry["bytes"] == len(data)
        assert entry["sha256"] == hashlib.sha256(data).hexdigest()
    statistics = manifest["statistics"]["resid.0"]
    norms = np.linalg.norm(numbered(5).astype(np.float64), axis=1)
    assert statistics["tokens"] == ROWS
    assert statistics["mean_norm"] == pytest.approx(norms.mean(), rel=1e-9)
    assert statistics["mean_square"] == pytest.approx((norms**2).mean(), rel=1e-9)
