"""The dictionaries of a config: names become callables, and arguments are checked against their signatures."""

import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from dictlearn import dictionaries, learners, objectives, rules
from dictlearn.experiment import typed, values
from dictlearn.experiment.cells import OF_MEMBERS, addressed, cells
from dictlearn.types import Scalar

SWEPT = ("dictionary", "objective", "rule", "revive", "learner")
"""The subtrees whose arguments may be swept."""
SEEDS = 2**32
"""From here on, JAX's keys repeat."""
OWN = (*SWEPT, "sweep")
"""The subtrees that a member may set for itself."""
OPTIONAL = ("objective", "rule", "revive")
"""The subtrees that only some learners read."""


class _Room(NamedTuple):
    """The callables of a subtree. given: arguments that the experiment fills in."""

    make: Callable
    names: Callable[[], list[str]]
    functions: Callable[[Mapping], list[Callable]]
    given: tuple[str, ...]


def _of(factory: Callable) -> Callable[[Mapping], list[Callable]]:
    return lambda tree: [factory(tree["name"])]


ROOMS = {
    "dictionary": _Room(
        *(dictionaries.make, dictionaries.names),
        lambda tree: dictionaries.parts(tree["name"], tree.get("activation")),
        ("d_in", "d_out", "parent", "name"),
    ),
    "objective": _Room(
        objectives.make, objectives.names, _of(objectives.factory), ("out", "batch")
    ),
    "rule": _Room(rules.make, rules.names, _of(rules.factory), ("steps", "n_latents")),
    "revive": _Room(rules.make, lambda: rules.names("wrapper"), _of(rules.factory), ("inner",)),
    "learner": _Room(
        *(learners.make, learners.names),
        lambda tree: learners.functions(tree["name"]),
        ("dictionary", "objective", "rule", "start", "inner", "steps"),
    ),
}


class Part(NamedTuple):
    """A callable and its arguments. static: arguments that determine the program. swept: numbers that are
    traced, with the values of this member. given: arguments that the experiment fills in."""

    make: Callable
    static: dict
    swept: dict
    given: dict

    def __call__(self, traced: Mapping = {}, **built) -> Any:
        """The result of the callable. traced: tracers that replace `swept`."""
        return self.make(**self.static, **self.given, **(traced or self.swept), **built)


class Member(NamedTuple):
    """One dictionary of an experiment. label: its name in config.members, or the name of its variant. index:
    its position among the members of this label and width. hparams: its arguments by subtree, the seed, and the
    steps if they are swept. steps: the steps after which its training ends. cell: the values that the sweep
    sets, by their addresses."""

    label: str
    index: int
    hparams: dict
    steps: int
    cell: dict
    dictionary: Part
    objective: Part | None
    rule: Part | None
    revive: Part | None
    learner: Part

    @property
    def name(self) -> str:
        return f"{self.label}_n{self.hparams['dictionary']['n_latents']}_{self.index}"

    @property
    def parts(self) -> dict[str, Part]:
        """The parts that the member has, by subtree."""
        return {key: part for key in ROOMS if (part := getattr(self, key)) is not None}


def members(config: Mapping) -> list[Member]:
    """Every dictionary of an experiment, in the order of config.members and of their sweeps.

    Raises ValueError for an unknown name or argument, listing the known ones, and for a subtree that no
    learner reads.
    """
    config, blocks = values.settled(config), {}
    for label, own in config.get("members", {}).items():
        values.plain_name(label, "config.members has")
        known("config.members", own, OWN, label)
        blocks[label] = f"config.members.{label}", _joined(config, own)
    if not blocks:
        subtrees = {key: _subtree(config, key) for key in OWN}
        blocks[None] = "config", {key: tree for key, tree in subtrees.items() if tree}
    reads = [learners.reads(_learner(block)) for _, block in blocks.values()]
    _refuse_unread("config", config, set().union(*reads))
    return [one for label, found in blocks.items() for one in _members(config, label, *found)]


def known(where: str, found: Mapping, names, *more: str) -> None:
    """Raises ValueError for a key of `found` that is not one of `names`, and lists them."""
    where = ".".join((where, *more))
    if not isinstance(found, Mapping):
        raise ValueError(f"{where}={found!r} must be a subtree of arguments.")
    for key in found:
        if key not in names:
            raise ValueError(f"{where} has no {key!r}; it takes {', '.join(names)}.")


def _subtree(config: Mapping, key: str) -> dict:
    """A copy of a subtree. Sweeps become flat: `{"rule": {"lr": ...}}` is `{"rule.lr": ...}`."""
    tree = config.get(key, {})
    known("config", tree, tree, key)
    if key != "sweep":
        return dict(tree)
    inner = lambda name, value: value.items() if isinstance(value, Mapping) else ((None, value),)
    return {
        f"{name}.{last}" if last else name: values
        for name, value in tree.items()
        for last, values in inner(name, value)
    }


def _joined(config: Mapping, own: Mapping) -> dict[str, dict]:
    """The subtrees of a member: its own, merged over the ones of the config that its learner reads."""
    renamed = "name" in own.get("learner", {})
    reads = learners.reads(_learner(own if renamed else config))
    unread = set(OPTIONAL) - reads | ({"learner"} if renamed else set())
    shared = {key: _subtree(config, key) for key in OWN if key not in unread}
    found = {key: {**shared.get(key, {}), **_subtree(own, key)} for key in OWN}
    return {key: tree for key, tree in found.items() if tree}


def _members(config: Mapping, label: str | None, where: str, block: dict) -> list[Member]:
    """The members of one block, one for each cell of its sweep."""
    reads = learners.reads(_learner(block))
    _refuse_unread(where, block, reads)
    block.setdefault("learner", {}).setdefault("name", "gradient")
    if "objective" in reads:
        block["objective"] = {"name": "fvu"} | block.get("objective", {})
    variant = dictionaries.variant(_name(where, block, "dictionary"))
    if "rule" in reads and variant.wrapped_by and "revive" not in block:
        block["revive"] = {"name": variant.wrapped_by}
    _refuse_learner(where, block["dictionary"]["name"], block["learner"]["name"])
    needed = ["dictionary", "learner", *(key for key in ("objective", "rule") if key in reads)]
    present = [key for key in ROOMS if key in block or key in needed]
    settings = {key: _settings(key, _name(where, block, key), block[key]) for key in present}
    for key in present:
        known(where, block[key], ["name", *settings[key]], key)
    label = label or block["dictionary"]["name"]
    counts, found, first = {}, [], config.get("first_index", 0)
    for cell in cells(addressed(block.get("sweep", {}), settings)):
        one = _member(config, block, settings, cell)
        n_latents = one.hparams["dictionary"].get("n_latents")
        if n_latents is None:
            raise ValueError(f"neither {where}.dictionary.n_latents nor sweep.n_latents is set.")
        counts[n_latents] = counts.get(n_latents, first - 1) + 1
        found.append(one._replace(label=label, index=counts[n_latents]))
    return found


def _member(config: Mapping, block: dict, settings: dict, cell: dict) -> Member:
    """One cell of a sweep, `SUBTREE.NAME` -> value, without its label and index."""
    seed = cell.get("seed", config["seed"])
    if not (typed.fits(seed, int) and 0 <= seed < SEEDS):
        raise ValueError(f"seed={seed!r} must be a whole number, at least 0 and below {SEEDS}.")
    steps = _steps(cell, config["steps"])
    arguments = {key: dict(block[key]) for key in settings}
    swept: dict[str, set] = {key: set() for key in settings}
    for address, value in cell.items():
        if address not in OF_MEMBERS:
            key, name = address.split(".", 1)
            arguments[key][name] = value
            traceable = settings[key][name] in (Scalar, Scalar | None)
            swept[key] |= {name} if traceable and isinstance(value, int | float) else set()
    known_above = {"steps": steps, "n_latents": arguments["dictionary"].get("n_latents")}
    parts = {}
    for key, own in arguments.items():
        room = ROOMS[key]
        typed.refuse(f"config.{key}", own, room.functions(own))
        reads = {name for each in room.functions(own) for name in _parameters(each)}
        given = {name: known_above[name] for name in reads & set(room.given) & set(known_above)}
        static = {name: value for name, value in own.items() if name not in swept[key]}
        parts[key] = Part(room.make, static, {name: own[name] for name in swept[key]}, given)
    optional = {key: parts.pop(key, None) for key in OPTIONAL}
    hparams = {**arguments, "seed": seed, **({"steps": steps} if "steps" in cell else {})}
    return Member("", 0, hparams, steps, cell, **parts, **optional)


def _steps(cell: Mapping, longest: int) -> int:
    """The steps of a cell. Raises ValueError for more than the run has."""
    steps = cell.get("steps", longest)
    if not (typed.fits(steps, int) and 1 <= steps <= longest):
        raise ValueError(
            f"sweep.steps={steps!r} must be a whole number, at least 1 and at most config.steps={longest}."
        )
    return steps


def _settings(key: str, name: str, tree: Mapping) -> dict[str, Any]:
    """The arguments that the callable `name` of a subtree takes: argument -> annotation."""
    room = ROOMS[key]
    if name not in room.names():
        raise ValueError(f"{key}.name={name!r} must be one of {', '.join(room.names())}.")
    found = {}
    for function in room.functions(tree):
        hints = typing.get_type_hints(function)
        found |= {k: hints.get(k) for k in _parameters(function) if k not in room.given}
    return found


def _name(where: str, block: Mapping, key: str) -> str:
    if "name" not in block.get(key, {}):
        names = ", ".join(ROOMS[key].names())
        raise ValueError(f"{where}.{key}.name is missing; it may be {names}.")
    return block[key]["name"]


def _learner(block: Mapping) -> str:
    return _subtree(block, "learner").get("name", "gradient")


def _refuse_unread(where: str, block: Mapping, reads: set[str]) -> None:
    for key in sorted(OPTIONAL):
        if block.get(key) and ("rule" if key == "revive" else key) not in reads:
            raise ValueError(f"{where}.{key} is set, but no learner of {where} reads it.")


def _refuse_learner(where: str, dictionary: str, learner: str) -> None:
    """Raises ValueError unless the learner can train the dictionary. If the variant's own learner uses a
    rule, any learner with a rule can."""
    own = dictionaries.variant(dictionary).learner
    by_rule = all("rule" in learners.reads(each) for each in (own, learner))
    if learner != own and not by_rule:
        raise ValueError(
            f"{where}: {dictionary!r} is trained by the learner {own!r}, not by {learner!r}; set learner.name."
        )


def _parameters(function: Callable) -> Mapping[str, Any]:
    return inspect.signature(function).parameters
