"""The compiled programs of an experiment: members that differ only in traced numbers share one program."""

import math
import typing
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from dictlearn import dictionaries, sharding
from dictlearn.experiment import typed
from dictlearn.experiment.members import Member, members
from dictlearn.sweep import Sweep, sweep
from dictlearn.types import Batch, Dictionary, Learner


class Program(NamedTuple):
    """The dictionaries of one program. module: hparams -> the module of one member. learner: a learner with
    a leading axis N. hparams: the traced numbers by subtree, each value [N]."""

    members: list[Member]
    module: Callable[[Mapping], Dictionary]
    learner: Sweep
    hparams: dict[str, dict[str, jax.Array]]

    @property
    def key(self) -> str:
        """The name of the program, unique in its experiment."""
        return self.members[0].name

    @property
    def n_latents(self) -> int:
        return self.members[0].hparams["dictionary"]["n_latents"]

    @property
    def steps(self) -> int:
        """The steps after which its training ends."""
        return self.members[0].steps

    def module_of(self, n: int) -> Dictionary:
        """The module of member n."""
        return self.module({"dictionary": self.members[n].dictionary.swept})

    def variables(self, state) -> dict:
        """The variables of all members, each leaf [N, ...]."""
        return self.learner.variables(state, self.hparams)


def programs(config: Mapping, d_in: int, d_out: int | None) -> list[Program]:
    """Groups the members of an experiment into programs.

    Args:
        config: the config.
        d_in: the width of the inputs.
        d_out: the width of the targets; None for an autoencoder.

    Returns:
        The programs, in the order of the members and of their sweeps.
    """
    groups: list[list[Member]] = []
    for member in members(config):
        sized = _sized(member, {"d_in": d_in, "d_out": d_out})
        for group in groups:
            if _share(group[0], sized):
                group.append(sized)
                break
        else:
            groups.append([sized])
    return [_program(group) for group in groups]


def _sized(member: Member, widths: dict) -> Member:
    """The member with the widths of its stream."""
    part = member.dictionary
    dictionary = {**member.hparams["dictionary"], **widths}
    return member._replace(
        dictionary=part._replace(given=part.given | widths),
        hparams={**member.hparams, "dictionary": dictionary},
    )


def _share(a: Member, b: Member) -> bool:
    """Whether two members differ only in seeds and traced numbers, and train for the same steps."""
    static = lambda m: {key: (part.static, part.swept.keys()) for key, part in m.parts.items()}
    return (a.label, a.steps) == (b.label, b.steps) and static(a) == static(b)


def _program(group: list[Member]) -> Program:
    first = _bounded(group)
    stacked = {
        key: {name: jnp.asarray([m.parts[key].swept[name] for m in group]) for name in part.swept}
        for key, part in first.parts.items()
        if part.swept
    }

    def module(hparams: Mapping) -> Dictionary:
        return first.dictionary(hparams.get("dictionary", {}))

    def build(hparams: Mapping) -> Learner:
        make = lambda key, **built: first.parts[key](hparams.get(key, {}), **built)
        built = {key: make(key) for key in first.parts if key not in ("learner", "revive")}
        if first.revive:
            built["rule"] = make("revive", inner=built["rule"])
        return make("learner", built=built)

    tried = []
    for member in group:
        # A wrong value is refused now, in the learner and in the dictionary as `restore` makes it.
        build({key: part.swept for key, part in member.parts.items()})
        if member.dictionary.swept not in tried:
            set_up(module({"dictionary": member.dictionary.swept}))
            tried.append(member.dictionary.swept)
    return Program(group, module, sweep(build), stacked)


def set_up(module: Dictionary) -> dict:
    """The shapes of a module's variables. Raises ValueError for an impossible value of a field."""
    rows = math.prod(jax.sharding.get_abstract_mesh().shape.values())
    x_BD = jax.ShapeDtypeStruct((rows, module.d_in), jnp.float32)
    return jax.eval_shape(lambda x_BD: module.init(jax.random.key(0), x_BD, method="encode"), x_BD)


def _bounded(group: list[Member]) -> Member:
    """The first member, with the largest value of a traced NAME as NAME_max where the variant has that
    field."""
    part = group[0].dictionary
    fields = dictionaries.fields(part.static["name"], part.static.get("activation"))
    bounds = {
        f"{name}_max": max(member.dictionary.swept[name] for member in group)
        for name in part.swept
        if f"{name}_max" in fields and not part.static.get(f"{name}_max")
    }
    hints: dict = {}
    for kind in dictionaries.parts(part.static["name"], part.static.get("activation")):
        hints |= typing.get_type_hints(kind)
    for name, bound in bounds.items():
        if not typed.fits(bound, hints[name]):
            raise ValueError(
                f"dictionary.{name.removesuffix('_max')}={bound} must be a whole number."
            )
    return group[0]._replace(dictionary=part._replace(static=part.static | bounds))


def init(program: Program, batch: Batch, mesh):
    """Initialises the learner of a program.

    Args:
        program: the program.
        batch: a sample of the stream.
        mesh: the mesh on which the state is placed.

    Returns:
        The state, each leaf [N, ...].
    """
    abstract = jax.eval_shape(program.learner.init, _keys(program), program.hparams, batch)
    placed = sharding.shardings(abstract, mesh, lead="N")
    make = jax.jit(program.learner.init, out_shardings=placed)
    return make(_keys(program), program.hparams, batch)


def abstract_states(programs: list[Program], d_in: int, d_out: int | None, mesh=None) -> dict:
    """The shapes of the states that `init` makes.

    Args:
        programs: the programs.
        d_in, d_out: as in `programs`.
        mesh: the mesh of the shapes; None for shapes without a placement.

    Returns:
        {key of the program: ShapeDtypeStructs}.
    """

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
    """The jitted update of the learner: the state is donated and keeps its placement, info is on every
    device."""
    placed = sharding.shardings(state, mesh, lead="N"), sharding.everywhere(mesh)
    return jax.jit(program.learner.update, donate_argnums=0, out_shardings=placed)


def _keys(program: Program):
    return jnp.stack([jax.random.key(member.hparams["seed"]) for member in program.members])
