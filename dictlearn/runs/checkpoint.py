"""Checkpoints: a state and its metadata on disk, written exactly or not at all.

    directory/<step>/                   one checkpoint, renamed into place by Orbax when it is complete
    directory/<step>/record.json        {"meta": the metadata of the caller, "leaves": {name: type}}
    directory/<step>/checksums.sha256   its seal: the SHA-256 of every other file, one line each

Orbax commits a step atomically, but loads a step with a flipped byte without an error. A background
thread therefore adds the record and the seal after the commit, and `restore` rejects every step whose
files differ from its seal. A step without a seal was interrupted and does not count.

Older steps are removed here, after the seal. Orbax would remove them at the commit, by number only, so a
damaged step could displace an intact one.

Every process calls `save` and `restore`, on a file system that all share. Only process 0 seals, verifies
and removes; the others receive the step that it chose, so that a read error on one machine cannot send
two processes to two steps.
"""

import json
import logging
import platform
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from importlib import metadata
from typing import Any

import jax
import numpy as np
from etils import epath
from jax.experimental import multihost_utils

from dictlearn.runs import _orbax
from dictlearn.runs._clock import CLOCK
from dictlearn.runs._seal import SEAL, damage, seal

RECORD = "record.json"
TEMPORARY = ".orbax-checkpoint-tmp"
SKIPPING = "skipping checkpoint %s: %s."

log = logging.getLogger("dictlearn")


class Checkpoints:
    """The checkpoints of one run in one directory (a path, or gs://...), the newest `keep` of them.

    A context manager: its exit waits for pending saves. An error of a background save (a full disk, for
    example) is raised once, as a RuntimeError, by the next `save`, `restore`, `wait` or `close`. Earlier steps
    are not affected, and saving can continue.
    """

    def __init__(self, directory: epath.PathLike, keep: int = 3):
        if keep < 1:
            raise ValueError(
                f"{keep=} must be at least 1: a run keeps at least its newest checkpoint."
            )
        self._directory = _absolute(directory)
        self._directory.mkdir(parents=True, exist_ok=True)
        self._keep = keep
        # The steps that this run continues from, ascending; None before the steps on disk have been read.
        self._steps: list[int] | None = None if _steps(self._directory) else []
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._pending: tuple[int, Future[None]] | None = None

    def save(self, step: int, state: Any, meta: dict[str, Any]) -> None:
        """Copies `state` to the host, and writes and seals it in the background.

        On return the buffers of `state` may be donated, and `meta` may be changed. The call first waits
        for the previous save; if Orbax gave that one up because its time had run out, as it does when the
        process was suspended meanwhile, a warning says so, and a process that runs alone goes on without it.
        Saving the newest step again does nothing, because a step has one state.
        Steps on disk after the restored step are damaged; they are removed when the next save is sealed.

        Args:
            step: at least 0, and not below the newest step.
            state: a pytree of arrays, including PRNG keys; in a run of several processes, global arrays.
                Weak types are restored as strong types.
            meta: a JSON value; tuples are restored as lists.

        Raises:
            ValueError: for a step below the newest, or if there are checkpoints and `restore` was not
                called.
            TypeError: for a leaf that is not an array, or a `meta` that is not JSON.
        """
        try:
            self.wait()
        except RuntimeError as error:
            if jax.process_count() > 1 or not isinstance(error.__cause__, TimeoutError):
                raise
            log.warning("%s The run goes on without it.", error)
        if self._steps is None:
            raise ValueError(f"{self._directory} holds checkpoints: restore first, or empty it.")
        newest = max(self._steps, default=0)
        if step < newest:
            raise ValueError(
                f"{step=} is before {newest}, the newest step of {self._directory}: save in order."
            )
        if step in self._steps:
            return
        record = json.dumps({"meta": meta, "leaves": _leaves(state)}, indent=1)
        path = self._directory / str(step)
        _clear(path)
        with CLOCK.told(f"checkpoint {path}"):
            response = _orbax.save(path, state)
        kept = [*self._steps, step][-self._keep :]
        self._pending = step, self._thread.submit(_finish, path, response, record, kept)

    def restore(self, target: Callable[[dict], Any]) -> tuple[int, Any, dict[str, Any]] | None:
        """Loads the newest intact checkpoint.

        Every damaged, unfinished or unloadable checkpoint before it is skipped with a warning of the
        logger "dictlearn". A directory with only an interrupted first save counts as empty.

        Args:
            target: called with the meta of the checkpoint, returns the pytree to fill, of arrays or
                `jax.ShapeDtypeStruct`s. The sharding of a leaf decides its placement, whatever it was
                saved from; a leaf without one is placed on the first local device. Its exceptions are
                passed on.

        Returns:
            (step, state, meta), or None where there is no checkpoint.

        Raises:
            ValueError: if the leaves of the checkpoint differ from the leaves of the target.
            RuntimeError: if there are checkpoints, but none can be used.
        """
        self.wait()
        for path in _intact(self._directory):
            record = json.loads((path / RECORD).read_text())
            wanted = target(record["meta"])
            _check_fits(path, record["leaves"], _leaves(wanted))
            try:
                state, problem = _orbax.orbax().load(path, jax.tree.map(_placed, wanted)), ""
            except Exception as error:
                state, problem = None, f"Orbax cannot load it: {_reason(error)}"
            if multihost_utils.process_allgather(np.bool_(problem)).any():
                log.warning(SKIPPING, path, problem or "another process cannot load it")
                continue
            step = int(path.name)
            self._steps = [known for known in _steps(self._directory) if known <= step]
            return step, state, record["meta"]
        self._steps = []
        return None

    def tidy(self) -> None:
        """Removes the remains of an interrupted save or removal. Only the run that saves here may call it,
        because other processes may read while a save is in progress."""
        self.wait()
        if jax.process_index() == 0:
            _remove(self._directory, set((self._steps or [])[: -self._keep]))

    def wait(self) -> None:
        """Returns once all saves are on disk and sealed. Raises RuntimeError if one failed."""
        if self._pending is None:
            return
        (step, future), self._pending = self._pending, None
        try:
            future.result()
        except Exception as error:
            raise RuntimeError(
                f"checkpoint {self._directory / str(step)} was not completed: {_reason(error)}. "
                "Make room there or make it writable; the steps before it are untouched."
            ) from error
        self._steps = [*(self._steps or ()), step][-self._keep :]

    def close(self) -> None:
        """Waits as `wait` does, then ends the thread. A second call does nothing."""
        try:
            self.wait()
        finally:
            self._thread.shutdown()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def versions() -> dict[str, str]:
    """The versions of the packages that affect a result; "not installed" for a missing package."""
    found = {"python": platform.python_version()}
    for package in ("dictlearn", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def _clear(path: epath.Path) -> None:
    """Removes a damaged step at `path`, before any process continues.

    Orbax's `overwrite` has a race. A process that looks after process 0 has removed the old step takes another
    branch than process 0, and each waits for the other at a barrier.
    """
    if jax.process_index() == 0 and path.exists():
        path.rmtree()
    multihost_utils.sync_global_devices(f"{path} is clear")


def _finish(path: epath.Path, response: Any, record: str, kept: list[int]) -> None:
    """Waits for the commit of `path`, seals it, then removes every step that is not in `kept`."""
    with CLOCK.told(f"checkpoint {path}"):
        response.result()
    if jax.process_index() != 0:
        return
    (path / RECORD).write_text(record)
    seal(path)
    _remove(path.parent, set(_steps(path.parent)) - set(kept))


def _remove(directory: epath.Path, steps: set[int]) -> None:
    """Removes steps, and the remains of interrupted saves."""
    for path in [*(directory / str(step) for step in steps), *_leftovers(directory)]:
        path.rmtree()


def _intact(directory: epath.Path) -> Iterator[epath.Path]:
    """Yields the intact checkpoints, newest first, the same ones on every process.

    Raises RuntimeError at the end, unless a new start loses nothing. That is so if the directory has no step,
    or a single step that was never sealed, the first save of a killed run.
    """
    verified = _verified(directory) if jax.process_index() == 0 else iter(())
    while (step := int(multihost_utils.broadcast_one_to_all(np.int32(next(verified, -1))))) >= 0:
        yield directory / str(step)
    steps = _steps(directory)
    if len(steps) > 1 or any((directory / str(step) / SEAL).exists() for step in steps):
        raise RuntimeError(
            f"{directory} holds steps {steps}, but none can be used (see the warnings): "
            "restore a copy of one, or give an empty directory to start from step 0."
        )


def _verified(directory: epath.Path) -> Iterator[int]:
    """Yields the undamaged steps, newest first; warns of each other step on the way."""
    for leftover in _leftovers(directory):
        log.warning(SKIPPING, leftover, "its writing was interrupted")
    for step in reversed(_steps(directory)):
        path = directory / str(step)
        if problem := damage(path):
            log.warning(SKIPPING, path, problem)
        else:
            yield step


def _leaves(tree: Any) -> dict[str, str]:
    """The type of every leaf by its path, as "params/W_enc_DF": "float32[768, 12288]"."""
    leaves = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if not hasattr(leaf, "dtype"):
            raise TypeError(f"leaf {name} of the state is {leaf!r}: wrap it in jnp.asarray.")
        leaves[name] = f"{leaf.dtype}{list(leaf.shape)}"
    return leaves


def _placed(leaf: Any) -> jax.ShapeDtypeStruct:
    first = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    sharding = getattr(leaf, "sharding", None) or first
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _check_fits(path: epath.Path, saved: dict[str, str], wanted: dict[str, str]) -> None:
    for name in sorted(saved.keys() | wanted.keys()):
        there, here = saved.get(name, "absent"), wanted.get(name, "absent")
        if there != here:
            raise ValueError(
                f"checkpoint {path} does not fit: leaf {name} is {there} there and {here} here. "
                "Use the configuration it was saved with, or another directory."
            )


def _absolute(directory: epath.PathLike) -> epath.Path:
    """An absolute path, as Orbax requires; `absolute` of epath would treat gs://... as a relative path."""
    path = epath.Path(directory)
    return path if "://" in str(path) else path.absolute()


def _steps(directory: epath.Path) -> list[int]:
    """The steps on disk, ascending, damaged or not."""
    paths = directory.iterdir() if directory.is_dir() else ()
    return sorted(int(path.name) for path in paths if path.name.isdigit())


def _leftovers(directory: epath.Path) -> list[epath.Path]:
    """The temporary folders of saves that were interrupted by a kill."""
    return list(directory.glob(f"*{TEMPORARY}*"))


def _reason(error: Exception) -> str:
    """The message in one line; of TensorStore's messages, without the specification at the end."""
    message = " ".join(str(error.__cause__ or error).split())
    return message.partition(" [tensorstore_spec")[0].rstrip(".")
