"""Grids that grow: the cells of a config that other configs have not trained.

A cell is a dictionary with its settings: what a member's label and hyperparameters say, and its number of
steps. What a config gains in cells is a config of its own (`rest`), whose sweeps list exactly the new cells.
Their dictionaries are counted on from the others, so no two have one name.
"""

import json
from collections.abc import Mapping, Sequence

from dictlearn.experiment import values
from dictlearn.experiment.cells import listed
from dictlearn.experiment.members import OPTIONAL, OWN, Member, members

FIRST = "first_index"
"""The key of a config that says from which index the members of a label and width are counted."""
_OF_CELLS = (*OWN, "members", "steps", FIRST)


def cell(member: Member) -> str:
    """The cell of a member, as a text that is equal for equal cells."""
    told = {"label": member.label, "steps": member.steps, **member.hparams}
    return json.dumps(values.to_json(told), sort_keys=True)


def within(small: Mapping, large: Mapping) -> bool:
    """Whether every cell of one config is also a cell of the other."""
    return {*map(cell, members(small))} <= {*map(cell, members(large))}


def like(config: Mapping, other: Mapping) -> dict:
    """The config, with the cells of another. Keys that both have keep their order, so that equal configs are
    written as equal bytes."""
    own = [key for key in config if key not in _OF_CELLS or key in other]
    found = {key: other[key] if key in _OF_CELLS else config[key] for key in own}
    return found | {key: other[key] for key in _OF_CELLS if key in other and key not in found}


def rest(config: Mapping, trained: Sequence[Mapping]) -> dict | None:
    """The config with those of its cells that none of the trained configs has; None if there are none.

    Example:
        >>> own = {"seed": 0, "steps": 9, "dictionary": {"name": "topk"}, "rule": {"name": "adam"}}
        >>> small = own | {"sweep": {"n_latents": (8, 16), "k": (2,)}}
        >>> large = own | {"sweep": {"n_latents": (8, 16), "k": (2, 4)}}
        >>> rest(large, [small])["sweep"]
        {'dictionary.n_latents, dictionary.k': ((8, 4), (16, 4))}
    """
    known = [member for own in trained for member in members(own)]
    if not known:
        return dict(config)
    have = {*map(cell, known)}
    left = [member for member in members(config) if cell(member) not in have]
    if not left:
        return None
    unread = {key for key in OPTIONAL if all(key not in member.hparams for member in left)}
    found = {k: v for k, v in config.items() if k not in ("sweep", "members", *unread)}
    found[FIRST] = 1 + max(member.index for member in known)
    if not config.get("members"):
        return found | {"sweep": listed([member.cell for member in left])}
    own = {label: [m.cell for m in left if m.label == label] for label in config["members"]}
    one = lambda label: {**config["members"][label], "sweep": listed(own[label])}
    return found | {"members": {label: one(label) for label in own if own[label]}}
