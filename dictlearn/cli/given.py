"""Keys on the command line take precedence or are an error; they are never overridden silently.

If a key is set that the experiment's file sweeps, the sweep is dropped with a message. Anything else that would
override a set key is an error that names both: a sweep on the command line, and a member's own key or sweep.
"""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from dictlearn.experiment.cells import names
from dictlearn.runs.workdir import flat

log = logging.getLogger("dictlearn")


def keys(words: Sequence[str]) -> list[str]:
    """The config keys that a command line sets."""
    found = (re.match(r"--?(?:no)?config\.([^=]+)", word) for word in words)
    return list(dict.fromkeys(match[1] for match in found if match))


def model(word: str) -> dict[str, str]:
    """The arguments of `lm.load` for a model by its name, or by the path of a folder or a file. A path's last
    part is its name; a version such as 3.2 is not a suffix."""
    path = Path(word)
    if not path.exists():
        return {"name": word}
    return {"name": path.resolve().name.removesuffix(".gguf"), "path": word}


def winning(config: dict, given: Sequence[str]) -> dict:
    """Drops the sweeps that keys on the command line replace.

    Args:
        config: the config of the file, with the given keys set.
        given: the keys that the command line sets.

    Returns:
        The config without the file's sweeps over these keys.

    Raises:
        ValueError: for a given key that something else overrides, naming both.
    """
    blocks, left_out = dict(_blocks(config)), []
    for key in given:
        for begin, name, may_go in _replacing(blocks, key):
            if not may_go or f"{begin}{name}" in given:
                raise ValueError(
                    f"config.{key} is set, and config.{begin}{name} would replace it; leave one of them "
                    f"out, or set config.{begin}{name} alone."
                )
            left_out.append((key, begin, name))
    for key, begin, name in left_out:
        log.warning(
            "config.%s is set: the sweep config.%s%s of the file is left out.", key, begin, name
        )
        blocks[begin]["sweep"] = _without(blocks[begin]["sweep"], name.removeprefix("sweep."))
    return config


def _blocks(config: dict) -> Iterator[tuple[str, dict]]:
    """The config and its members, each with the prefix of its keys."""
    yield "", config
    members = config.get("members", {})
    for label, own in members.items() if isinstance(members, dict) else ():
        if isinstance(own, dict):
            yield f"members.{label}.", own


def _replacing(blocks: Mapping[str, Mapping], key: str) -> Iterator[tuple[str, str, bool]]:
    """What overrides a key, as (block, name, whether it can be dropped): sweeps over it and, for a key that
    members share, the members' own keys.
    """
    own = next((begin for begin in blocks if begin and key.startswith(begin)), "")
    argument = key.removeprefix(own)
    swept = argument.removeprefix("sweep.")
    for begin in ("", own) if own else blocks:
        sweep = blocks[begin].get("sweep", {})
        for listed in dict(flat(sweep)) if isinstance(sweep, dict) else ():
            together = names(listed)
            if argument == swept and any(_same(name, argument) for name in together):
                yield begin, f"sweep.{listed}", begin == own and len(together) == 1
            elif argument != swept and begin != own and any(_meet(n, swept) for n in together):
                yield begin, f"sweep.{listed}", False
        if begin and not own:
            yield from ((begin, name, False) for name in _own(blocks[begin], argument))


def _own(block: Mapping, argument: str) -> Iterator[str]:
    """A member's own argument, or its own learner, which does not inherit from the shared one."""
    subtree, _, name = argument.partition(".")
    own = block.get(subtree, {})
    if name and (name in own or (subtree == "learner" and "name" in own)):
        yield f"{subtree}.{name if name in own else 'name'}"


def _same(swept: str, argument: str) -> bool:
    """Whether a swept name is that argument, alone or with its subtree. `seed` alone is the seed of the run."""
    return swept == argument or (swept == argument.partition(".")[2] and swept != "seed")


def _meet(a: str, b: str) -> bool:
    return a == b or _same(a, b) or _same(b, a)


def _without(sweep: Mapping, name: str) -> dict:
    """A sweep without one name, which may be in a nested sweep."""
    found = {}
    for key, value in sweep.items():
        inner = name.removeprefix(f"{key}.")
        if isinstance(value, dict) and inner != name:
            value = _without(value, inner)
        if key != name and value != {}:
            found[key] = value
    return found
