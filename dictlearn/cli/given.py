"""What the command line sets wins or is refused; it is never replaced in silence.

A sweep of the experiment's file over a key that is set is left out, and that is told. What else would replace a
set key is an error that names both: a sweep that is set too, and a member's own key or sweep.
"""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence

from dictlearn.runs.workdir import flat

log = logging.getLogger("dictlearn")


def keys(words: Sequence[str]) -> list[str]:
    """The keys of the config that the words of a command line set."""
    found = (re.match(r"--?(?:no)?config\.([^=]+)", word) for word in words)
    return list(dict.fromkeys(match[1] for match in found if match))


def winning(config: dict, given: Sequence[str]) -> dict:
    """`config` without the sweeps of its file over keys that are `given`.

    Raises ValueError for a given key that something else replaces, naming both."""
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
    """The config and its members, each by what its keys begin with."""
    yield "", config
    members = config.get("members", {})
    for label, own in members.items() if isinstance(members, dict) else ():
        if isinstance(own, dict):
            yield f"members.{label}.", own


def _replacing(blocks: Mapping[str, Mapping], key: str) -> Iterator[tuple[str, str, bool]]:
    """What replaces a key, (block, name, whether it can be left out): sweeps over it, and of a key that members
    share their own."""
    own = next((begin for begin in blocks if begin and key.startswith(begin)), "")
    argument = key.removeprefix(own)
    swept = argument.removeprefix("sweep.")
    for begin in ("", own) if own else blocks:
        sweep = blocks[begin].get("sweep", {})
        for name in dict(flat(sweep)) if isinstance(sweep, dict) else ():
            if argument == swept and _same(name, argument):
                yield begin, f"sweep.{name}", begin == own
            elif argument != swept and begin != own and _meet(name, swept):
                yield begin, f"sweep.{name}", False
        if begin and not own:
            yield from ((begin, name, False) for name in _own(blocks[begin], argument))


def _own(block: Mapping, argument: str) -> Iterator[str]:
    """A member's own argument, or its own learner, which has nothing of the shared one's."""
    subtree, _, name = argument.partition(".")
    own = block.get(subtree, {})
    if name and (name in own or (subtree == "learner" and "name" in own)):
        yield f"{subtree}.{name if name in own else 'name'}"


def _same(swept: str, argument: str) -> bool:
    """Whether a swept name is that argument: by itself or with its subtree. `seed` alone is the run's."""
    return swept == argument or (swept == argument.partition(".")[2] and swept != "seed")


def _meet(a: str, b: str) -> bool:
    return a == b or _same(a, b) or _same(b, a)


def _without(sweep: Mapping, name: str) -> dict:
    """A sweep without one name, which may be that of a nested one."""
    found = {}
    for key, value in sweep.items():
        inner = name.removeprefix(f"{key}.")
        if isinstance(value, dict) and inner != name:
            value = _without(value, inner)
        if key != name and value != {}:
            found[key] = value
    return found
