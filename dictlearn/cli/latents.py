"""`dictlearn latents`: what every latent of a dictionary does on a text, as delphi's latent cache or as the
features of Neuronpedia or of circuit-tracer."""

from argparse import Namespace
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from dictlearn.analyses import Subject, _circuit_tracer, _neuronpedia
from dictlearn.cli import events
from dictlearn.events import Events
from dictlearn.experiment.stream import origin
from dictlearn.interop import _latent_cache as latent_cache
from dictlearn.runs.trained import Trained

SPLITS = 5


def _delphi(subject: Subject, dictionary: Trained, found: Events, folder: Path, splits: int):
    recipe = subject.config.get("harvest", {})
    where = {"split": recipe.get("split") or "train", "column": recipe.get("column", "text")}
    latent_cache.write(found, folder, splits=splits, **where)


def _features(subject: Subject, dictionary: Trained, found: Events, folder: Path, splits: int):
    _neuronpedia.write(dictionary, subject.lm, found, _target(subject), folder, splits)


def _viewer(subject: Subject, dictionary: Trained, found: Events, folder: Path, splits: int):
    _circuit_tracer.write(dictionary, subject.lm, found, _target(subject), folder)


def _target(subject: Subject) -> tuple[str, ...]:
    sites = list(origin(subject.config) or ())
    return sites[0].written


class Layout(NamedTuple):
    """room: the folder in the workdir. write: what writes it. splits: whether it may be several files."""

    room: str
    write: Callable
    splits: bool = True


LAYOUTS = {
    "delphi": Layout("latents", _delphi),
    "neuronpedia": Layout("neuronpedia", _features),
    "circuit_tracer": Layout("circuit_tracer", _viewer, splits=False),
}
FLAGS = {
    **events.FLAGS,
    "--splits": {"type": int, "help": f"files, each with as many latents; default {SPLITS}"},
    "--to": {"choices": tuple(LAYOUTS), "default": "delphi", "help": "the layout; default delphi"},
}


def latents(config: Mapping, workdir: Path, arguments: Namespace) -> None:
    """Writes workdir/latents/TAP, or neuronpedia/TAP, or circuit_tracer/TAP."""
    tap = config["stream"].get("tap") or config["harvest"]["taps"]
    subject, dictionary = events.dictionary_of(config, workdir, arguments)
    layout, splits = LAYOUTS[arguments.to], arguments.splits
    if not layout.splits and splits is not None:
        raise ValueError(f"{splits=}: {arguments.to} has one file a layer; leave --splits out.")
    splits = SPLITS if splits is None else splits
    if layout.splits:
        latent_cache.check(splits, dictionary.module.n_latents)
    found = events.cached(subject, dictionary, workdir, arguments)
    folder = workdir / layout.room / "+".join([tap] if isinstance(tap, str) else tap)
    layout.write(subject, dictionary, found, folder, splits)
    print(f"{layout.room}: {folder}")
