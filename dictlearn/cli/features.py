"""`dictlearn features`: a page for every latent of a dictionary, and an index of all."""

import json
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path

from dictlearn.cli import events
from dictlearn.cli.progress import Progress

FLAGS = {
    **events.FLAGS,
    "--effects": {
        "action": "store_true",
        "help": "effects on the loss in the largest windows; the model runs over the text",
    },
}


def features(config: Mapping, workdir: Path, arguments: Namespace) -> None:
    """Writes workdir/features/NAME/index.html."""
    from dictlearn.report import features as pages

    subject, dictionary = events.dictionary_of(config, workdir, arguments)
    lm, said = subject.lm, explanations(workdir, dictionary.name)
    found = events.cached(subject, dictionary, workdir, arguments)
    folder = workdir / "features" / events.safe(dictionary.name)
    with Progress("effects", "pairs") as progress:
        shown = pages.Panels(dictionary, lm, found, said, progress if arguments.effects else None)
    with Progress("features", "pages") as progress:
        path = pages.write(shown, folder, progress)
    print(f"features: {path}")


def explanations(workdir: Path, name: str) -> dict[int, tuple[str, float | None]]:
    """The explanations in workdir/explanations/NAME.jsonl: lines {"latent", "text", "score"}, of which the last
    one of a latent counts. Empty without the file; ValueError for any other line, naming it.
    """
    path, found = workdir / "explanations" / f"{events.safe(name)}.jsonl", {}
    lines = path.read_text("utf-8").splitlines() if path.is_file() else []
    for number, line in enumerate(lines, 1):
        try:
            one = json.loads(line)
            score = one.get("score")
            found[int(one["latent"])] = str(one["text"]), None if score is None else float(score)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path}, line {number}: {error}; a line is {{latent, text, score}}."
            ) from error
    return found
