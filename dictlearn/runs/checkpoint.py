"""Checkpoints: a state and what is known about it, on disk, exactly, or not at all.

    directory/<step>/                   one checkpoint, renamed into place by Orbax when complete
    directory/<step>/record.json        {"meta": what the caller says, "leaves": {name: type}}
    directory/<step>/checksums.sha256   its seal: the SHA-256 of every other file, a line each

Orbax commits a step atomically, but loads one in which a byte has flipped without a word. So a
background thread adds the record and the seal after the commit, and `restore` trusts no step whose
files are not byte for byte those of its seal. A step without a seal was interrupted, and is none.

Older steps are removed here, after the seal. Orbax would remove them at the commit, and by number
alone: a damaged step could displace an intact one.

Every process calls `save` and `restore`, on a file system they share. Process 0 alone seals,
verifies and removes; the others are told which step it chose, so that a file read wrongly on
one machine cannot send two processes to two steps.
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

from dictlearn.runs._seal import SEAL, damage, seal

RECORD = "record.json"
TEMPORARY = ".orbax-checkpoint-tmp"
SKIPPING = "skipping checkpoint %s: %s."

log = logging.getLogger("dictlearn")


class Checkpoints:
    """The checkpoints of one run in one directory (a path, or gs://...), the newest `keep` of them.

    A context manager: leaving it waits for what was saved. An error of the writing behind `save`
    (a full disk, say) is raised once, as a RuntimeError, by the next `save`, `restore`, `wait` or
    `close`; the steps saved before it are untouched, and saving can go on.
    """

    def __init__(self, directory: epath.PathLike, keep: int = 3):
        if keep < 1:
            raise ValueError(f"{keep=} is below 1: a run keeps at least its newest checkpoint.")
        self._directory = _absolute(directory)
        self._directory.mkdir(parents=True, exist_ok=True)
        self._keep = keep
        # The steps this run stands on, ascending; None while those on disk have not been looked at.
        self._steps: list[int] | None = None if _steps(self._directory) else []
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._pending: tuple[int, Future[None]] | None = None

    def save(self, step: int, state: Any, meta: dict[str, Any]) -> None:
        """Copies `state` to the host, and has it written and sealed behind the caller's back.

        On return the buffers of `state` may be donated, and `meta` changed. Waits first for the
        step saved before. Saving the newest step again does nothing: a step has one state. What
        lies on disk beyond the step that was restored is damaged; it is removed when the next
        save is sealed.

        Args:
          step: at least 0, not below the newest step.
          state: a pytree of arrays, PRNG keys among them; in a run of several processes, global
            arrays. Weak types come back strong.
          meta: what JSON can hold; tuples come back as lists.

        Raises ValueError for a step below the newest, or if checkpoints are there and `restore` was
        not called; TypeError for a leaf that is no array, or a `meta` that is no JSON.
        """
        self.wait()
        if self._steps is None:
            raise ValueError(f"{self._directory} holds checkpoints: restore first, or empty it.")
        newest = max(self._steps, default=0)
        if step < newest:
            raise ValueError(
                f"{step=} lies before {newest}, the newest of {self._directory}: save in order."
            )
        if step in self._steps:
            return
        record = json.dumps({"meta": meta, "leaves": _leaves(state)}, indent=1)
        path = self._directory / str(step)
        _clear(path)
        response = _orbax().save_async(path, state)
        kept = [*self._steps, step][-self._keep :]
        self._pending = step, self._thread.submit(_finish, path, response, record, kept)

    def restore(self, target: Callable[[dict], Any]) -> tuple[int, Any, dict[str, Any]] | None:
        """Loads the newest intact checkpoint, as (step, state, meta); None when there is none.

        Every damaged, unfinished or unloadable checkpoint on the way is skipped with a warning of
        the logger "dictlearn". A directory that holds a first, interrupted save and nothing else
        counts as empty.

        Args:
          target: called with the checkpoint's meta, gives the pytree to fill, of arrays or
            `jax.ShapeDtypeStruct`s. A leaf's sharding says where it goes, whatever it was saved
            from; a leaf without one goes to the first local device. What it raises is raised.

        Raises ValueError if the checkpoint's leaves are not those of the target, RuntimeError if
        there are checkpoints and not one can be used.
        """
        self.wait()
        for path in _intact(self._directory):
            record = json.loads((path / RECORD).read_text())
            wanted = target(record["meta"])
            _check_fits(path, record["leaves"], _leaves(wanted))
            try:
                state, problem = _orbax().load(path, jax.tree.map(_placed, wanted)), ""
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

    def wait(self) -> None:
        """Returns once everything saved is on disk and sealed; RuntimeError if it could not be."""
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
        """Waits as `wait` does, then lets the thread go. A second call does nothing."""
        try:
            self.wait()
        finally:
            self._thread.shutdown()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def versions() -> dict[str, str]:
    """The versions a result depends on, by package; "not installed" where a package has none."""
    found = {"python": platform.python_version()}
    for package in ("dictlearn", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def _clear(path: epath.Path) -> None:
    """Removes what a damaged step left at `path`, before any process goes on.

    Orbax's `overwrite` has a race: a process that looks after process 0 has removed the old step
    takes another way than process 0, and each waits at a barrier for the other.
    """
    if jax.process_index() == 0 and path.exists():
        path.rmtree()
    multihost_utils.sync_global_devices(f"{path} is clear")


def _orbax():
    """Orbax, imported with the first save or load: it takes half as long to import as JAX."""
    from orbax.checkpoint import v1

    return v1


def _finish(path: epath.Path, response: Any, record: str, kept: list[int]) -> None:
    """Waits for the commit of `path`, seals it, then removes every step that is not `kept`."""
    response.result()
    if jax.process_index() != 0:
        return
    (path / RECORD).write_text(record)
    seal(path)
    for step in set(_steps(path.parent)) - set(kept):
        (path.parent / str(step)).rmtree()
    for leftover in _leftovers(path.parent):
        leftover.rmtree()


def _intact(directory: epath.Path) -> Iterator[epath.Path]:
    """Yields the intact checkpoints, newest first, the same on every process.

    Raises RuntimeError at the end, unless nothing is lost by starting over: the directory holds no
    step, or one that was never sealed, the first save of a run killed in it.
    """
    verified = _verified(directory) if jax.process_index() == 0 else iter(())
    while (step := int(multihost_utils.broadcast_one_to_all(np.int32(next(verified, -1))))) >= 0:
        yield directory / str(step)
    steps = _steps(directory)
    if len(steps) > 1 or any((directory / str(step) / SEAL).exists() for step in steps):
        raise RuntimeError(
            f"{directory} holds steps {steps}, and not one can be used (the warnings say why): "
            "put a copy of one back, or give an empty directory to start over."
        )


def _verified(directory: epath.Path) -> Iterator[int]:
    """Yields the undamaged steps, newest first; warns of each other step when it comes to it."""
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
    """An absolute path, as Orbax wants it; epath's `absolute` takes gs://... for a relative one."""
    path = epath.Path(directory)
    return path if "://" in str(path) else path.absolute()


def _steps(directory: epath.Path) -> list[int]:
    """The steps on disk, ascending, whatever their condition."""
    paths = directory.iterdir() if directory.is_dir() else ()
    return sorted(int(path.name) for path in paths if path.name.isdigit())


def _leftovers(directory: epath.Path) -> list[epath.Path]:
    """What Orbax was writing when a run was killed."""
    return list(directory.glob(f"*{TEMPORARY}*"))


def _reason(error: Exception) -> str:
    """The message in one line; of TensorStore's, without the specification that follows it."""
    message = " ".join(str(error.__cause__ or error).split())
    return message.partition(" [tensorstore_spec")[0].rstrip(".")
