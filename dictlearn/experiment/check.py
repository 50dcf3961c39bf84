"""The check of a config: every key is read, and every name exists."""

import inspect
from collections.abc import Callable, Mapping

from dictlearn import streams
from dictlearn.experiment import typed
from dictlearn.experiment.members import OWN, known, members

NUMBERS = ("seed", "steps", "batch_size", "checkpoint_every", "log_every", "first_index")
LONGEST = 2**31
"""Steps are counted in 32 bits."""
SUBTREES = (
    *(*OWN, "members", "model", "models", "harvest", "stream", "start"),
    *("evaluate", "meters", "analyses", "mesh", "budget"),
)
BUDGET = ("flops", "hours", "bytes")
"""What a budget may bound: the operations and the hours of all cells, and the memory of a device."""


def check(config: Mapping, callables: Mapping[str, Callable] | None = None) -> None:
    """Raises ValueError for a key that nothing reads; the message lists the known keys.

    callables: {subtree: the function that reads it}, for the subtrees that `members` does not read;
    checked if given.
    """
    known("config", config, NUMBERS + SUBTREES)
    for name in ("seed", "steps", "batch_size"):
        if name not in config:
            raise ValueError(f"config.{name} is missing.")
    for name in NUMBERS[1:]:
        whole = isinstance(config.get(name, 1), int) and not isinstance(config.get(name), bool)
        if not (whole and 1 <= config.get(name, 1) < LONGEST):
            raise ValueError(
                f"config.{name}={config[name]!r} must be a positive integer below {LONGEST}."
            )
    for name in SUBTREES:
        if not isinstance(config.get(name, {}), Mapping):
            raise ValueError(f"config.{name}={config[name]!r} must be a subtree of arguments.")
    for name, function in (callables or {}).items():
        arguments = inspect.signature(function).parameters.items()
        names = [k for k, v in arguments if v.default is not v.empty and k != "progress"]
        known("config", config.get(name, {}), names, name)
        typed.refuse(f"config.{name}", config.get(name, {}), [function])
    stream = dict(config.get("stream", {}))
    if (name := stream.pop("name", None)) in streams.names():
        typed.refuse("config.stream", stream, [streams.maker(name)])
    known("config.start", start := config.get("start", {}), ("workdir", "program", "path"))
    if start and ("path" in start) == ("workdir" in start):
        raise ValueError(
            f"config.start={start!r} needs one of workdir, the folder of a run, and path, a dictionary."
        )
    known("config.budget", budget := config.get("budget", {}), BUDGET)
    for name, most in budget.items():
        if not (typed.fits(most, float) and most > 0):
            raise ValueError(f"config.budget.{name}={most!r} must be a positive number.")
    members(config)
