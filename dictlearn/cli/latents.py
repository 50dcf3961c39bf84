"""`dictlearn latents`: what every latent of a dictionary does on a text, as delphi's latent cache or as the
features of Neuronpedia."""

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path

from dictlearn.analyses import Subject, _neuronpedia
from dictlearn.cli import events
from dictlearn.events import Events
from dictlearn.experiment.stream import origin
from dictlearn.interop import _latent_cache as latent_cache
from dictlearn.runs.trained import Trained


def _delphi(subject: Subject, dictionary: Trained, found: Events, folder: Path, splits: int):
    recipe = subject.config.get("harvest", {})
    where = {"split": recipe.get("split") or "train", "column": recipe.get("column", "text")}
    latent_cache.write(found, folder, splits=splits, **where)


def _features(subject: Subject, dictionary: Trained, found: Events, folder: Path, splits: int):
    sites = list(origin(subject.config) or ())
    _neuronpedia.write(dictionary, subject.lm, found, sites[0].written, folder, splits)


WRITERS = {"delphi": ("latents", _delphi), "neuronpedia": ("neuronpedia", _features)}
"""Layout -> (the folder in the workdir, what writes it)."""

FLAGS = {
    **events.FLAGS,
    "--splits": {"type": int, "default": 5, "help": "files, each with as many latents"},
    "--to": {"choices": tuple(WRITERS), "default": "delphi", "help": "the layout; default delphi"},
}


def latents(config: Mapping, workdir: Path, arguments: Namespace) -> None:
    """Writes workdir/latents/TAP, or workdir/neuronpedia/TAP."""
    tap = config["stream"].get("tap") or config["harvest"]["taps"]
    subject, dictionary = events.dictionary_of(config, workdir, arguments)
    latent_cache.check(arguments.splits, dictionary.module.n_latents)
    found = events.cached(subject, dictionary, workdir, arguments)
    room, write = WRITERS[arguments.to]
    folder = workdir / room / "+".join([tap] if isinstance(tap, str) else tap)
    write(subject, dictionary, found, folder, arguments.splits)
    print(f"{room}: {folder}")
