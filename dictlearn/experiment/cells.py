"""The cells of a sweep: the values of each, by the addresses `SUBTREE.NAME` of the arguments that they set.

Listed names are crossed. Names in one key, with commas between them, vary together:

    {"n_latents": (512, 1024), "k": (8, 16)}                  four cells
    {"n_latents, k": ((512, 8), (1024, 16))}                  two cells

`seed` and `steps` are no arguments of a subtree: the seed of a dictionary, and the steps after which its
training ends.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

OF_MEMBERS = ("seed", "steps")
"""What a cell may set that is no argument of a subtree."""


def names(key: str) -> list[str]:
    """The names in a key of a sweep."""
    return [name.strip() for name in key.split(",")]


def cells(lists: Mapping[str, Any]) -> list[dict]:
    """Every combination of the listed values; the last name varies fastest."""
    rows = [_rows(key, listed) for key, listed in lists.items()]
    combined = itertools.product(*rows)
    return [{name: value for row in chosen for name, value in row.items()} for chosen in combined]


def listed(found: Sequence[Mapping[str, Any]]) -> dict[str, tuple]:
    """The sweep of exactly these cells, which set the same names; the inverse of `cells`."""
    together = list(found[0])
    if len(together) < 2:
        return {name: tuple(cell[name] for cell in found) for name in together}
    return {", ".join(together): tuple(tuple(cell[n] for n in together) for cell in found)}


def addressed(lists: Mapping[str, Any], settings: Mapping[str, Mapping]) -> dict[str, Any]:
    """The lists of a sweep by `SUBTREE.NAME`. Raises ValueError for an argument that is swept twice.

    settings: the arguments of each subtree."""
    keys: dict[str, str] = {}
    found = {}
    for key, values in lists.items():
        addresses = [_address(name, settings) for name in names(key)]
        for address in addresses:
            if address in keys:
                both = " and ".join(sorted(f"sweep.{each}" for each in (key, keys[address])))
                raise ValueError(f"{both} are the same argument; leave one of them out.")
            keys[address] = key
        found[", ".join(addresses)] = values
    return found


def _rows(key: str, listed: Any) -> list[dict]:
    """The values that a key of a sweep takes in turn, by name."""
    if not isinstance(listed, list | tuple) or not listed:
        raise ValueError(f"sweep.{key}={listed!r} must be a list of at least one value.")
    together = names(key)
    if len(together) == 1:
        return [{key: value} for value in listed]
    for values in listed:
        if not isinstance(values, list | tuple) or len(values) != len(together):
            raise ValueError(
                f"sweep.{key} has {values!r}; each of its values is a list of {len(together)}."
            )
    return [dict(zip(together, values, strict=True)) for values in listed]


def _address(name: str, settings: Mapping[str, Mapping]) -> str:
    """`SUBTREE.NAME` of a swept argument. Raises ValueError unless exactly one argument matches."""
    every = [f"{key}.{each}" for key, known in settings.items() for each in known]
    found = [address for address in every if name in (address, address.split(".", 1)[1])]
    if name in OF_MEMBERS or len(found) == 1:
        return name if name in OF_MEMBERS else found[0]
    if found:
        raise ValueError(f"sweep.{name} is ambiguous: {', '.join(found)}; use one of these names.")
    raise ValueError(
        f"sweep.{name} is not an argument; the arguments are {', '.join((*OF_MEMBERS, *every))}."
    )
