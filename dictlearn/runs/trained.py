"""Trained dictionaries, restored from a workdir.

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
from dictlearn.experiment import Program, values
from dictlearn.runs.checkpoint import Checkpoints
from dictlearn.runs.fold import fold_normalisation
from dictlearn.runs.parts import parts
from dictlearn.runs.places import found
from dictlearn.runs.workdir import read_records
from dictlearn.streams import Origin
from dictlearn.types import Codes, Dictionary


class Site(NamedTuple):
    """The site of a dictionary: taps of one language model, and the text on which it was trained.

    Args:
        model: the name of the model, and the files of its weights with their sha256.
        tap, target: the taps that the dictionary reads and writes, concatenated.
        text: the name of the text, and how it was split.

    Example:
        >>> site = Site({"name": "smollm2"}, ("resid.9",), ("resid.9",), {})
        >>> Site.of(site._asdict()) == site
        True
    """

    model: Mapping[str, Any]
    tap: tuple[str, ...]
    target: tuple[str, ...]
    text: Mapping[str, Any]

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> "Site":
        """The site from the dict of `_asdict`, also after JSON. Raises ValueError for taps that are no list of
        names, and a model or a text that is no object."""
        for key in ("tap", "target"):
            taps = told[key]
            if not isinstance(taps, list | tuple) or not all(isinstance(tap, str) for tap in taps):
                raise ValueError(f"{key}={taps!r} of a site must be a list of names.")
        for key in ("model", "text"):
            if not isinstance(told[key], Mapping):
                raise ValueError(f"{key}={told[key]!r} of a site must be an object.")
        return cls(**{**told, "tap": tuple(told["tap"]), "target": tuple(told["target"])})

    @classmethod
    def at(cls, origin: Origin) -> "Site":
        """The site of a dictionary that is trained on rows of `origin`."""
        return cls(origin.model, origin.read, origin.written, origin.text)


@dataclass(frozen=True)
class Trained:
    """A trained dictionary. It reads and writes raw activations; its codes are the codes of the normalised
    ones.

    Args:
        module: the dictionary.
        variables: its parameters and statistics, without a leading axis N.
        norm: the normalisation of its input.
        sites: its sites, one for each language model; () where none is known.
        name: the name of the run's member.
        hparams: its hyperparameters, by subtree.
        metrics: its record in `metrics.json`; empty if it has not been evaluated.

    Example:
        >>> from dictlearn import dictionaries
        >>> module = dictionaries.make("relu", d_in=4, n_latents=16, sparsity=0.1)
        >>> x_BD = jax.random.normal(jax.random.key(0), (8, 4))
        >>> trained = Trained(module, module.init(jax.random.key(1), x_BD, jnp.zeros(16, bool)))
        >>> trained.encode(x_BD).val.shape, trained.reconstruct(x_BD).shape
        ((8, 16), (8, 4))
    """

    module: Dictionary
    variables: Mapping[str, Any]
    norm: normalise.Norm = field(default_factory=normalise.Norm)
    sites: tuple[Site, ...] = ()
    name: str = ""
    hparams: dict = field(default_factory=dict)
    metrics: dict = field(default_factory=dict)

    def encode(self, x_BD: Float[Array, "B D"]) -> Codes:
        """The codes of raw activations; `dictlearn.dense` converts them to a `[B, F]` array."""
        return _encode(self.module, self.norm, self.variables, x_BD)

    def decode(self, codes: Codes) -> Float[Array, "B D"]:
        """Raw reconstructions from codes. Under a per-token normalisation, codes alone do not determine
        them, and the result is the normalised reconstruction; for a skip transcoder, the result lacks the
        skip. `reconstruct` always returns whole raw reconstructions."""
        return _decode(self.module, self.norm, self.variables, codes)

    def reconstruct(self, x_BD: Float[Array, "B D"]) -> Float[Array, "B E"]:
        """Raw reconstructions of raw activations."""
        return _reconstruct(self.module, self.norm, self.variables, x_BD)

    def folded(self) -> "Trained":
        """The same dictionary with the normalisation folded into its weights: `module.apply(variables,
        x_BD)` reads and writes raw activations. Raises ValueError where this is not possible
        (runs/fold.py)."""
        variables = fold_normalisation(self.norm, self.module, self.variables)
        return replace(self, variables=variables, norm=normalise.Norm())


def place(dictionary: Trained) -> tuple[str, str]:
    """The taps of a dictionary of one model that reads one tap and writes one.

    Args:
        dictionary: the dictionary.

    Returns:
        (the tap that it reads, the tap that it writes); the same one for an autoencoder.

    Raises:
        ValueError: for a dictionary without a site, or with several taps or models.

    Example:
        >>> from dictlearn import dictionaries
        >>> module = dictionaries.make("relu", d_in=4, n_latents=16, sparsity=0.1)
        >>> place(Trained(module, {}, sites=(Site({}, ("mlp_in.3",), ("mlp_out.3",), {}),)))
        ('mlp_in.3', 'mlp_out.3')
    """
    taps = [tap for site in dictionary.sites for tap in (site.tap, site.target)]
    if len(taps) != 2 or any(len(tap) != 1 for tap in taps):
        raise ValueError(
            f"{dictionary.name!r} reads and writes {taps}; a dictionary that acts on a running model reads "
            "one tap of it and writes one, as its site says."
        )
    return taps[0][0], taps[1][0]


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
    """(raw reconstructions `[B, D]`, codes) of raw activations; traceable."""
    x_BD, undo = normalise.forward(norm, x_BD)
    y_BD, codes = module.apply(variables, jnp.asarray(x_BD), method="reconstruct")
    return undo(y_BD), codes


class Run(NamedTuple):
    """A run from its newest checkpoint. data: the fingerprint of what it was trained on. sites: the
    sites of its dictionaries. variables: for each program, by its key, with leaves `[N, ...]`."""

    path: Path
    step: int
    config: dict
    data: dict
    norm: normalise.Norm
    sites: tuple[Site, ...]
    programs: list[Program]
    variables: dict[str, Any]


def restore_run(workdir: str | Path, mesh=None) -> Run:
    """Restores a run from its newest intact checkpoint.

    Args:
        workdir: the workdir of the run.
        mesh: the mesh on which the variables are placed; None for one device.

    Returns:
        A Run.

    Raises:
        FileNotFoundError: if the workdir has no checkpoint.
    """
    directory = Path(workdir) / "checkpoints"
    if not directory.is_dir():
        raise FileNotFoundError(f"{directory} does not exist; `dictlearn train` writes it.")
    programs = []

    def target(meta):
        config = values.from_json(meta["config"])
        programs[:] = experiment.programs(config, meta["d_in"], meta["d_out"])
        return abstract(programs, meta, mesh)

    with Checkpoints(directory) as checkpoints:
        restored = checkpoints.restore(target)
    if restored is None:
        raise FileNotFoundError(f"{directory} holds no checkpoint; `dictlearn train` writes one.")
    step, (states, norm), meta = restored
    variables = {p.key: p.variables(states[p.key]) for p in programs}
    norm = normalise.Norm(meta["norm"]["kind"], **norm)
    sites = tuple(map(Site.of, meta["sites"]))
    config = found(meta["config"], Path(workdir))
    return Run(Path(workdir), step, config, meta["data"], norm, sites, programs, variables)


def abstract(programs: list[Program], meta: Mapping, mesh=None) -> tuple[dict, dict]:
    """The content of a checkpoint as ShapeDtypeStructs.

    Args:
        programs: the programs of the run.
        meta: the metadata of the checkpoint.
        mesh: the mesh of the shapes; None for shapes without a placement.

    Returns:
        (the states by program, the arrays of the normalisation).
    """
    states = experiment.abstract_states(programs, meta["d_in"], meta["d_out"], mesh)
    placed = mesh and sharding.everywhere(mesh)
    one = lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32, sharding=placed)
    return states, {name: one(shape) for name, shape in meta["norm"]["shapes"].items()}


def restore(workdir: str | Path) -> list[Trained]:
    """Restores all dictionaries of a run, with those that were added to its grid.

    Args:
        workdir: the workdir of the run, as in `dictlearn train --workdir`.

    Returns:
        One Trained for each dictionary, in the order of the sweep, with the metrics of `dictlearn eval`
        if they exist.

    Raises:
        FileNotFoundError: where the workdir has no checkpoint.

    Example:
        >>> restore("/nowhere")
        Traceback (most recent call last):
        FileNotFoundError: /nowhere/checkpoints does not exist; `dictlearn train` writes it.
    """
    return [one for part in parts(Path(workdir)) for one in of_run(restore_run(part))]


def of_run(run: Run) -> list[Trained]:
    """The dictionaries of a run, in the order of the sweep, with their metrics if they were evaluated."""
    path = run.path / "metrics.json"
    metrics = read_records(path) if path.exists() else {}
    found = []
    for program in run.programs:
        for n, member in enumerate(program.members):
            one = jax.tree.map(lambda leaf, n=n: leaf[n], run.variables[program.key])
            module, known = program.module_of(n), metrics.get(member.name, {})
            found.append(
                Trained(module, one, run.norm, run.sites, member.name, member.hparams, known)
            )
    return found
