"""What a config means: each subtree is the keyword arguments of one callable, checked before anything runs.

    dictionary -> dictionaries.make      objective -> objectives.make      rule -> rules.make
    learner    -> learners.factory       stream    -> streams.make         model -> lm.load
    harvest    -> streams.harvest        meters    -> evaluate.measure     mesh  -> sharding.mesh
    start      -> begin.begin_from, dictionaries of another run to begin with
    revive     -> rules.make, a rule that wraps the one of `rule`: adapt_bias, resample, reanimate, redraw;
                  left out, the one that the variant is `wrapped_by`, if any
    sweep      -> lists of values for any of the arguments of dictionary, rule, revive and learner, or `seed`
    members    -> NAME: subtrees that replace or join the ones above; each is trained on the same batches

The learner, "gradient" unless `learner.name` says otherwise, decides which of objective, rule and revive are
read. A member whose learner has a name has nothing of the shared learner's, and nothing shared that its
learner does not read. d_in, d_out, steps, batch_size and seed are filled in from the stream and the top level.
"""

import functools
import inspect
import math
import typing
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dictlearn import dictionaries, learners, objectives, rules, sharding
from dictlearn.sweep import Group, cells, groups, sweep
from dictlearn.types import Batch, Learner, Scalar

NUMBERS = ("seed", "steps", "batch_size", "checkpoint_every", "log_every")
SUBTREES = (
    *("dictionary", "objective", "rule", "revive", "learner", "sweep"),
    *("members", "model", "harvest", "stream", "start", "meters", "analyses", "mesh"),
)
OWN = ("dictionary", "objective", "rule", "revive", "learner", "sweep")
"""The subtrees that a member may have of its own."""
OPTIONAL = ("objective", "rule", "revive")
"""Those that a learner may not read."""
FILLED = {"steps", "n_latents"}
"""Arguments of a rule or a learner that are filled in from the top level and the dictionary."""


class Member(NamedTuple):
    """One dictionary of a sweep: its name (`topk_n4096_0`) and all its hyperparameters."""

    name: str
    hparams: dict


class Program(NamedTuple):
    """Dictionaries that are one vmapped program. module: hparams -> Linen module, for one member's
    traced hparams. learner: over a leading axis N. hparams: traced values, each [N]. seeds: [N]."""

    members: list[Member]
    module: Callable
    learner: Learner
    hparams: dict[str, jax.Array]
    seeds: list[int]
    n_latents: int

    @property
    def key(self) -> str:
        """Names the program among the others of its experiment."""
        return self.members[0].name


def check(config: Mapping, callables: Mapping[str, Callable] | None = None) -> None:
    """Raises ValueError for a key that nothing reads, listing those there are.

    callables: what reads the subtrees that this file does not, by subtree; checked if given."""
    _known("config", config, NUMBERS + SUBTREES)
    for name in ("seed", "steps", "batch_size"):
        if name not in config:
            raise ValueError(f"config.{name} is missing.")
    for name in NUMBERS[1:]:
        if name in config and (not isinstance(config[name], int) or config[name] < 1):
            raise ValueError(f"config.{name}={config[name]!r} must be a positive integer.")
    for name in SUBTREES:
        if not isinstance(config.get(name, {}), Mapping):
            raise ValueError(f"config.{name}={config[name]!r} must be a subtree of arguments.")
    for name, function in (callables or {}).items():
        arguments = _parameters(function).items()
        known = [k for k, v in arguments if v.default is not v.empty and k != "progress"]
        _known(f"config.{name}", config.get(name, {}), known)
    _known("config.start", config.get("start", {}), ("workdir", "program"))
    for label, own in config.get("members", {}).items():
        if not isinstance(own, Mapping):
            raise ValueError(f"config.members.{label}={own!r} must hold subtrees of arguments.")
        _known(f"config.members.{label}", own, OWN)
    found = {label: (block, _reads(block)) for label, block in blocks(config)}
    for label, (block, reads) in found.items():
        where = f"config.members.{label}" if label else "config"
        for name in ("dictionary", "rule", "revive"):
            named = "name" in block.get(name, {})
            if not named and (block.get(name) or (name in reads and name != "revive")):
                raise ValueError(f"{where}.{name}.name is missing; there are {_names(name)}.")
        _refuse_unread(where, block, reads)
        kind, own = block["dictionary"]["name"], learner_name(block)
        wanted = dictionaries.variant(kind).learner
        if wanted != own:
            raise ValueError(
                f"{where}: {kind!r} is made by the learner {wanted!r}, not {own!r}; set learner.name."
            )
        for name, arguments in _arguments(block).items():
            _known(f"{where}.{name}", block.get(name, {}), arguments)
    _refuse_unread("config", config, set().union(*(reads for _, reads in found.values())))


def programs(config: Mapping, d_in: int, d_out: int | None) -> list[Program]:
    """The programs of an experiment, in the order of its members and of their sweeps.
    d_out: None for an autoencoder."""
    check(config)
    found = []
    for label, block in blocks(config):
        counts: dict[int, int] = {}
        names = []
        for cell in _cells(block):
            n = cell.get("n_latents", block["dictionary"].get("n_latents"))
            count = counts.setdefault(n, 0)
            names.append(f"{label or block['dictionary']['name']}_n{n}_{count}")
            counts[n] += 1
        grouped = groups(_cells(block), _traceable(block))
        found += [_program(block, group, names, d_in, d_out) for group in grouped]
    return found


def blocks(config: Mapping) -> list[tuple[str, Mapping]]:
    """(label, config of its own) of each member; of the whole, without a label, where there are none."""
    found = []
    for label, own in config.get("members", {}).items():
        renamed = "name" in own.get("learner", {})
        unread = set(OPTIONAL) - _reads(own if renamed else config)
        unread |= {"learner"} if renamed else set()
        shared = {name: value for name, value in config.items() if name not in unread}
        merged = {name: {**shared.get(name, {}), **own.get(name, {})} for name in OWN}
        merged = {name: subtree for name, subtree in merged.items() if subtree}
        found.append((label, {**shared, **merged}))
    return found or [("", config)]


def learner_name(block: Mapping) -> str:
    return block.get("learner", {}).get("name", "gradient")


def _reads(block: Mapping) -> set[str]:
    """Those of OPTIONAL that the learner of a block reads."""
    arguments = _parameters(learners.factory(learner_name(block))).values()
    taken = {v.name for v in arguments if v.kind is not v.KEYWORD_ONLY}
    return (taken | {"revive"} if "rule" in taken else taken) & set(OPTIONAL)


def _refuse_unread(where: str, block: Mapping, reads: set[str]) -> None:
    for name in OPTIONAL:
        if block.get(name) and name not in reads:
            raise ValueError(f"{where}.{name} is set, but no learner there reads it.")


def _program(config, group: Group, names, d_in: int, d_out: int | None) -> Program:
    owned = {place: dict(config.get(place, {})) for place in ("dictionary", "rule", "learner")}
    make = learners.factory(owned["learner"].pop("name", "gradient"))
    owned["revive"] = dict(_revive(config))
    for name, value in group.static.items():
        if name != "seed":
            owned[_owner(config, name)][name] = value
    fields = dictionaries.fields(owned["dictionary"]["name"])
    for name in group.traced[0]:
        if f"{name}_max" in fields and not owned["dictionary"].get(f"{name}_max"):
            owned["dictionary"][f"{name}_max"] = max(traced[name] for traced in group.traced)
    fixed = owned["dictionary"] | {"d_in": d_in, "d_out": d_out}
    filled = {"steps": config["steps"], "n_latents": fixed.get("n_latents")}
    rule_of = rules.factory(owned["rule"]["name"]) if owned["rule"] else None
    for place, function in (("rule", rule_of), ("learner", make)):
        for name in FILLED & set(_parameters(function) if function else ()):
            owned[place].setdefault(name, filled[name])

    def made(place: str, make: Callable, arguments: dict, hparams: dict):
        mine = {k: v for k, v in hparams.items() if _owner(config, k) == place}
        return make(**(arguments | mine))

    module = functools.partial(made, "dictionary", dictionaries.make, fixed)
    rule = functools.partial(made, "rule", rules.make, owned["rule"])
    if owned["revive"]:
        inner = rule
        around = lambda hparams: functools.partial(rules.make, inner=inner(hparams))
        rule = lambda hparams: made("revive", around(hparams), owned["revive"], hparams)
    objective = objectives.make(**dict(config.get("objective", {"name": "fvu"})))
    parts = {"dictionary": module, "objective": lambda hparams: objective, "rule": rule}
    parts = {name: part for name, part in parts.items() if name in _parameters(make)}
    learner = functools.partial(made, "learner", make, owned["learner"] | parts)
    members, seeds = [], []
    for traced, place in zip(group.traced, group.cells, strict=True):
        cell = group.static | traced
        seeds.append(cell.get("seed", config["seed"]))
        hparams = {**fixed, **owned["rule"], **owned["learner"], **cell}
        named = {"rule": owned["rule"]["name"]} if owned["rule"] else {}
        named["name"] = owned["dictionary"]["name"]
        members.append(Member(names[place], {**hparams, **named, "seed": seeds[-1]}))
    stacked = {k: jnp.asarray([t[k] for t in group.traced]) for k in group.traced[0] if k != "seed"}
    if "n_latents" not in fixed:
        raise ValueError("neither config.dictionary.n_latents nor config.sweep.n_latents is set.")
    n_latents = fixed["n_latents"]
    return Program(members, module, sweep(_traced(learner, group)), stacked, seeds, n_latents)


def _traced(learner: Callable, group: Group) -> Learner:
    """The learner made anew under each trace, so that its own arguments may be traced."""
    first = {name: value for name, value in group.traced[0].items() if name != "seed"}
    return Learner(
        lambda key, hparams, batch: learner(hparams).init(key, hparams, batch),
        lambda state, hparams, batch: learner(hparams).update(state, hparams, batch),
        learner(first).variables,
    )


def _revive(config: Mapping) -> Mapping:
    """config.revive, or the rule that the variant is nothing without."""
    variant = dictionaries.variant(config["dictionary"]["name"])
    own = variant.wrapped_by
    return config.get("revive") or ({"name": own} if own else {})


def init(program: Program, batch: Batch, mesh):
    """The state of a program's learner, from a sample of the stream, placed on `mesh`."""
    abstract = jax.eval_shape(program.learner.init, _keys(program), program.hparams, batch)
    placed = sharding.shardings(abstract, mesh, lead="N")
    make = jax.jit(program.learner.init, out_shardings=placed)
    return make(_keys(program), program.hparams, batch)


def abstract_states(programs: list[Program], d_in: int, d_out: int | None, mesh=None) -> dict:
    """What `init` makes, by program, as ShapeDtypeStructs: placed on `mesh` if there is one."""

    def one(program):
        rows = math.prod(mesh.shape.values()) if mesh else 1
        widths = (d_in, d_out or d_in)
        batch = Batch(*(jax.ShapeDtypeStruct((rows, d), jnp.float32) for d in widths))
        tree = jax.eval_shape(program.learner.init, _keys(program), program.hparams, batch)
        if mesh is None:
            return tree
        struct = lambda leaf, to: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=to)
        return jax.tree.map(struct, tree, sharding.shardings(tree, mesh, lead="N"))

    return {program.key: one(program) for program in programs}


def update(program: Program, state, mesh) -> Callable:
    """The learner's update, jitted: state donated, its placement kept, info on every device."""
    placed = sharding.shardings(state, mesh, lead="N"), sharding.everywhere(mesh)
    return jax.jit(program.learner.update, donate_argnums=0, out_shardings=placed)


def _keys(program: Program):
    return jnp.stack([jax.random.key(seed) for seed in program.seeds])


def _cells(config) -> list[dict]:
    return cells(dict(config.get("sweep", {}))) if config.get("sweep") else [{}]


def _traceable(config) -> set[str]:
    """Names annotated `Scalar` (or None) in the dictionary's fields or the signatures of the rules or
    the learner, and `seed`."""
    readers = [
        dictionaries.variant(config["dictionary"]["name"]),
        learners.factory(learner_name(config)),
    ]
    for place in (config.get("rule"), _revive(config)):
        readers += [rules.factory(place["name"])] if place else []
    hints = [item for reader in readers for item in typing.get_type_hints(reader).items()]
    return {name for name, hint in hints if hint in (Scalar, Scalar | None)} | {"seed"}


def _owner(config, name: str) -> str:
    """The subtree whose argument a swept name is: dictionary, rule, revive or learner."""
    known = _arguments(config)
    places = ("dictionary", "rule", "revive", "learner")
    owners = [place for place in places if name in known[place]]
    if len(owners) != 1 or name == "name":
        sweepable = sorted({k for place in known for k in known[place]} - {"name"})
        raise ValueError(
            f"sweep.{name} names no single argument; there are {', '.join(sweepable)}."
        )
    return owners[0]


def _arguments(config) -> dict[str, list[str]]:
    """What each subtree that this file reads may hold."""
    dictionary = [k for k in dictionaries.fields(config["dictionary"]["name"]) if k[:2] != "d_"]
    rule = _parameters(rules.factory(config["rule"]["name"])) if config.get("rule") else ()
    learner = _parameters(learners.factory(learner_name(config))).items()
    around = _revive(config)
    revive = _parameters(rules.factory(around["name"])) if around else ()
    return {
        "dictionary": ["name", *dictionary],
        "rule": ["name", *(k for k in rule if k not in FILLED)],
        "revive": ["name", *revive],
        "learner": [
            "name",
            *(k for k, v in learner if v.kind is v.KEYWORD_ONLY and k not in FILLED),
        ],
        "objective": [
            "name",
            *objectives.arguments(config.get("objective", {}).get("name", "fvu")),
        ],
    }


def _names(place: str) -> str:
    return ", ".join({"dictionary": dictionaries}.get(place, rules).names())


def _parameters(function) -> Mapping[str, Any]:
    return inspect.signature(function).parameters


def _known(where: str, found: Mapping, known) -> None:
    for key in found:
        if key not in known:
            raise ValueError(f"{where} has no {key!r}; there are {', '.join(known)}.")
