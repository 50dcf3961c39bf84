"""Trained dictionaries, read back from a workdir.

for dictionary in dictlearn.restore("runs/quickstart"):
    codes = dictionary.encode(x_BD)
    print(dictionary.name, dictionary.metrics["explained_variance"])
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dictlearn import experiment, normalise, sharding
from dictlearn.experiment import Program
from dictlearn.runs import fold
from dictlearn.runs.checkpoint import Checkpoints
from dictlearn.runs.workdir import read_json
from dictlearn.streams import Origin
from dictlearn.types import Codes, Dictionary


class Site(NamedTuple):
    """Where a dictionary belongs: taps of one language model, and the text on which it was trained.

    model: the model's name and what its weights were read from, with their sha256. tap, target: what the
    dictionary reads and writes, side by side. text: what the text is, and how it was cut."""

    model: Mapping[str, Any]
    tap: tuple[str, ...]
    target: tuple[str, ...]
    text: Mapping[str, Any]

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> "Site":
        """The site that `_asdict` tells of, back from JSON."""
        return cls(**{**told, "tap": tuple(told["tap"]), "target": tuple(told["target"])})

    @classmethod
    def at(cls, origin: Origin) -> "Site":
        """Where a dictionary belongs that is trained on rows of `origin`."""
        return cls(origin.model, origin.read, origin.written, origin.text)


@dataclass(frozen=True)
class Trained:
    """A trained dictionary. It reads and writes raw activations; its codes are those of the normalised ones.

    module, variables, norm: the dictionary, its parameters and statistics, and the normalisation of its input.
    sites: where it belongs, one a language model; () where none is known. name: of the run's member. hparams:
    what it was trained with. metrics: of `metrics.json`, empty if it has not been evaluated.

    Example:
      Trained(dictionaries.make("relu", d_in=64, n_latents=512, l1=0.1), {"params": params}).encode(x_BD)
    """

    module: Dictionary
    variables: Mapping[str, Any]
    norm: normalise.Norm = field(default_factory=normalise.Norm)
    sites: tuple[Site, ...] = ()
    name: str = ""
    hparams: dict = field(default_factory=dict)
    metrics: dict = field(default_factory=dict)

    def encode(self, x_BD: Float[Array, "B D"]) -> Codes:
        """The latents of raw activations; `dictlearn.dense` makes a `[B, F]` array of them."""
        return _encode(self.module, self.norm, self.variables, x_BD)

    def decode(self, codes: Codes) -> Float[Array, "B D"]:
        """Raw reconstructions. Under a per-token normalisation codes alone do not determine them,
        and these are the normalised ones; a skip transcoder's lack what its input adds by the skip.
        `reconstruct` gives raw and whole ones always."""
        return _decode(self.module, self.norm, self.variables, codes)

    def reconstruct(self, x_BD: Float[Array, "B D"]) -> Float[Array, "B D"]:
        """Raw activations in, raw reconstructions out."""
        return _reconstruct(self.module, self.norm, self.variables, x_BD)

    def folded(self) -> "Trained":
        """The same dictionary with the normalisation in its weights: `module.apply(variables, x_BD)`
        reads and writes raw activations. Raises ValueError where that
        cannot be (runs/fold.py)."""
        variables = fold.raw(self.norm, self.module, self.variables)
        return replace(self, variables=variables, norm=normalise.Norm())


@functools.partial(jax.jit, static_argnums=0)
def _encode(module, norm, variables, x_BD):
    return module.apply(variables, normalise.forward(norm, x_BD)[0], method="encode")


@functools.partial(jax.jit, static_argnums=0)
def _decode(module, norm, variables, codes):
    return normalise.undo(norm, module.apply(variables, codes, method="decode"))


@functools.partial(jax.jit, static_argnums=0)
def _reconstruct(module, norm, variables, x_BD):
    return reconstruct(module, norm, variables, x_BD)[0]


def reconstruct(module, norm: normalise.Norm, variables, x_BD) -> tuple[Array, Codes]:
    """Raw reconstructions `[B, D]` of raw activations, and the codes between; traceable."""
    x_BD, undo = normalise.forward(norm, x_BD)
    y_BD, codes = module.apply(variables, jnp.asarray(x_BD), method="reconstruct")
    return undo(y_BD), codes


class Run(NamedTuple):
    """A run as its newest checkpoint has it. sites: of its dictionaries. variables: for each program by its
    key, `[N, ...]`."""

    step: int
    config: dict
    norm: normalise.Norm
    sites: tuple[Site, ...]
    programs: list[Program]
    variables: dict[str, Any]


def restore_run(workdir: str | Path, mesh=None) -> Run:
    """The newest intact checkpoint of a workdir, placed on `mesh` or on one device.

    Raises FileNotFoundError where there is none."""
    directory = Path(workdir) / "checkpoints"
    if not directory.is_dir():
        raise FileNotFoundError(f"{directory} does not exist; `dictlearn train` writes it.")
    programs = []

    def target(meta):
        programs[:] = experiment.programs(meta["config"], meta["d_in"], meta["d_out"])
        return abstract(programs, meta, mesh)

    with Checkpoints(directory) as checkpoints:
        restored = checkpoints.restore(target)
    if restored is None:
        raise FileNotFoundError(f"{directory} holds no checkpoint; `dictlearn train` writes one.")
    step, (states, norm), meta = restored
    variables = {p.key: p.variables(states[p.key]) for p in programs}
    norm = normalise.Norm(meta["norm"]["kind"], **norm)
    sites = tuple(map(Site.of, meta["sites"]))
    return Run(step, meta["config"], norm, sites, programs, variables)


def abstract(programs: list[Program], meta: Mapping, mesh=None) -> tuple[dict, dict]:
    """What a checkpoint with this meta holds, as ShapeDtypeStructs: the states by program, and the arrays of
    the normalisation; placed on `mesh` if there is one."""
    states = experiment.abstract_states(programs, meta["d_in"], meta["d_out"], mesh)
    placed = mesh and sharding.everywhere(mesh)
    one = lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32, sharding=placed)
    return states, {name: one(shape) for name, shape in meta["norm"]["shapes"].items()}


def restore(workdir: str | Path) -> list[Trained]:
    """All dictionaries of a run, in the order of its sweep."""
    run = restore_run(workdir)
    path = Path(workdir) / "metrics.json"
    metrics = read_json(path, "dictlearn eval") if path.exists() else {}
    found = []
    for program in run.programs:
        for n, member in enumerate(program.members):
            one = jax.tree.map(lambda leaf, n=n: leaf[n], run.variables[program.key])
            module, known = program.module_of(n), metrics.get(member.name, {})
            found.append(
                Trained(module, one, run.norm, run.sites, member.name, member.hparams, known)
            )
    return found
