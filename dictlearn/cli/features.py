"""`dictlearn features`: a page for every latent of a dictionary, and an index of all."""

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path

from dictlearn.analyses import _explanations
from dictlearn.analyses._events import safe
from dictlearn.cli import events
from dictlearn.cli.progress import Progress
from dictlearn.runs.trained import Trained

FLAGS = {
    **events.FLAGS,
    "--effects": {
        "action": "store_true",
        "help": "effects on the loss, correlated dimensions, source tokens of attention; it takes longer",
    },
}


def features(config: Mapping, workdir: Path, arguments: Namespace) -> None:
    """Writes workdir/features/NAME/index.html."""
    from dictlearn.report import features as pages

    subject, dictionary = events.dictionary_of(config, workdir, arguments)
    lm, known = subject.lm, said(workdir, dictionary)
    found = events.cached(subject, dictionary, workdir, arguments)
    folder = site(workdir, dictionary)
    with Progress("effects", "pairs") as progress:
        effects = progress if arguments.effects else None
        rows = events.rows_of(subject, arguments) if arguments.effects else None
        shown = pages.Panels(dictionary, lm, found, known, effects, rows)
    with Progress("features", "pages") as progress:
        path = pages.write(shown, folder, progress)
    print(f"features: {path}")


def site(workdir: Path, dictionary: Trained) -> Path:
    """The folder of the pages of a dictionary."""
    return workdir / "features" / safe(dictionary.name)


def said(workdir: Path, dictionary: Trained) -> dict[int, tuple]:
    """{latent: (its explanation, its score)}."""
    lines = _explanations.read(_explanations.file(workdir, dictionary.name))
    return {latent: (line["text"], line["score"]) for latent, line in lines.items()}
