"""Damage to files: bytes flipped, put in, taken out and cut off, and values of JSON replaced by odd ones."""

import copy
import json
import random
from typing import Any

ODD = (
    None,
    True,
    0,
    -1,
    3,
    2**64,
    10**400,
    0.5,
    1e308,
    float("nan"),
    float("-inf"),
    "",
    "0",
    "é\ud800",
    "../..",
    "/",
    "x" * 5000,
    [],
    [[]],
    [None],
    [1, "a"],
    {},
    {"": {}},
    {"a": [1]},
    {"is": "tuple", "of": 3},
)


def damaged(chance: random.Random, whole: bytes) -> bytes:
    """The bytes with one to three kinds of damage."""
    found = bytearray(whole)
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(found) + 1)
        kind = chance.choice(("flip", "flip", "flip", "cut", "out", "in"))
        if kind == "cut" and chance.random() < 0.5:
            del found[at:]
        elif kind == "out":
            del found[at : at + chance.choice((1, 8, 100))]
        elif kind == "in":
            found[at:at] = chance.randbytes(chance.choice((1, 8)))
        elif at < len(found):
            found[at] ^= 1 << chance.randrange(8)
    return bytes(found)


def odd(chance: random.Random, text: str) -> str:
    """JSON with one value replaced, taken out or put in."""
    tree = json.loads(text)
    holders = [one for one in _inside(tree) if one]
    if not holders or chance.random() < 0.05:
        return json.dumps(chance.choice(ODD))
    holder = chance.choice(holders)
    key = chance.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
    if chance.random() < 0.15:
        del holder[key]
    elif isinstance(holder, dict) and chance.random() < 0.1:
        holder[chance.choice(("", "name", "é", "0"))] = copy.deepcopy(chance.choice(ODD))
    else:
        holder[key] = copy.deepcopy(chance.choice(ODD))
    return json.dumps(tree)


def _inside(tree: Any) -> list[Any]:
    """The dicts and lists of a tree, itself the first."""
    if not isinstance(tree, dict | list):
        return []
    inner = tree.values() if isinstance(tree, dict) else tree
    return [tree, *(found for one in inner for found in _inside(one))]
