"""Malicious or broken files in every format: one line names the file and the fault, nothing is run or written,
and little memory is taken."""

import functools
import os
import pickle
import shutil
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from dictlearn import interop
from tests.interop.test_conformance import FORMATS, parts, written

MOST_BYTES = 16 << 20
HUGE = 10 << 30


class Evil:
    def __reduce__(self):
        return os.system, ("touch ran",)


def edited(path, change) -> bool:
    """Changes the arrays of a file; False where it has none."""
    if path.suffix == ".safetensors":
        with safe_open(path, "np") as found:
            metadata = found.metadata()
        arrays = load_file(path)
        change(arrays)
        save_file(arrays, path, metadata)
    elif path.suffix == ".npz":
        with np.load(path) as found:
            arrays = dict(found)
        header = arrays.pop("header")
        change(arrays)
        np.savez(path, header=header, **arrays)
    elif path.suffix == ".pt":
        state = torch.load(path, weights_only=True)
        arrays = {k: one.numpy() for k, one in state.items() if isinstance(one, torch.Tensor)}
        others = {k: one for k, one in state.items() if k not in arrays}
        change(arrays)
        torch.save(others | {k: torch.tensor(array) for k, array in arrays.items()}, path)
    else:
        return False
    return True


def first(arrays):
    return min(key for key, array in arrays.items() if array.ndim and array.dtype.kind == "f")


def wrong_shape(path):
    def change(arrays):
        arrays[first(arrays)] = arrays[first(arrays)][..., :-1].copy()

    return edited(path, change)


def missing(path):
    return edited(path, lambda arrays: arrays.pop(first(arrays)))


def nan(path):
    return edited(path, lambda arrays: arrays[first(arrays)].fill(np.nan))


def code(path):
    """In the place where a pickle would be; elsewhere a pickle in place of the file."""
    evil = pickle.dumps({"encoder.weight": Evil()}, protocol=2)
    if path.suffix == ".npz":
        np.savez(path, header=np.array([Evil()], dtype=object))
    elif path.suffix == ".pt":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a/data.pkl", evil)
    else:
        path.write_bytes(evil)
    return True


def zip_path(path):
    with zipfile.ZipFile(path, "a" if zipfile.is_zipfile(path) else "w") as archive:
        archive.writestr("../../ran", "x")
        archive.writestr("/tmp/ran", "x")
    return True


def huge(path):
    """Gigabytes, by what the head of the file says or by its own length, of which nothing is on the disk."""
    data = path.read_bytes()
    if path.suffix == ".safetensors":
        path.write_bytes(struct.pack("<Q", HUGE) + data[8:])
    elif zipfile.is_zipfile(path):
        sizes = struct.pack("<II", 0xFFFFFFF0, 0xFFFFFFF0)
        parts = data.split(b"PK\x01\x02")
        path.write_bytes(
            b"PK\x01\x02".join([parts[0], *(p[:16] + sizes + p[24:] for p in parts[1:])])
        )
    else:
        os.truncate(path, HUGE)
    return True


def truncated(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return True


HARMS = (wrong_shape, missing, nan, code, zip_path, huge, truncated)


def refused(path):
    """The line with which a file is refused, for little memory."""
    tracemalloc.start()
    with pytest.raises(ValueError, match="one") as found:
        interop.load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MOST_BYTES
    assert str(path) in str(found.value)
    assert "\n" not in str(found.value)
    return str(found.value)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """format -> a folder with a dictionary in that format."""

    @functools.cache
    def made(format):
        folder = tmp_path_factory.mktemp("sound") / format
        written(format, folder)
        return folder

    return made


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("format", FORMATS)
def test_a_harmful_file_is_refused_in_a_line(format, harm, sound, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    n = 0
    while True:
        (path,) = shutil.copytree(sound(format), tmp_path / f"made{n}").iterdir()
        if n == len(parts(path)):
            break
        if harm(parts(path)[n]):
            before = sorted(tmp_path.rglob("*"))
            refused(path)
            assert sorted(tmp_path.rglob("*")) == before
        n += 1


@pytest.mark.parametrize("format", [name for name in FORMATS if not interop.format_of(name).SUFFIX])
def test_a_link_out_of_the_folder_is_refused(format, sound, tmp_path):
    (path,) = shutil.copytree(sound(format), tmp_path / "made").iterdir()
    for part in parts(path):
        part.rename(tmp_path / part.name)
        part.symlink_to(tmp_path / part.name)
        assert part.name in refused(path)
        part.unlink()
        (tmp_path / part.name).rename(part)


def test_a_snapshot_of_a_hubs_cache_is_links_to_its_blobs_alone(sound, tmp_path):
    home = tmp_path / "models--some--sae"
    snapshot = home / "snapshots" / "0a1b" / "one"
    (path,) = shutil.copytree(sound("sparsify"), tmp_path / "made").iterdir()
    (home / "blobs").mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for n, part in enumerate(parts(path)):
        part.rename(home / "blobs" / f"{n}")
        (snapshot / part.name).symlink_to(f"../../../blobs/{n}")
    interop.load(snapshot)
    (home / "blobs").rename(home / "elsewhere")
    (home / "blobs").symlink_to("elsewhere")
    assert str(home / "elsewhere") in refused(snapshot)
