"""The page `report.html`: curves, tables, latents and analyses of a run, from its workdir alone.

It is one file that asks for nothing else: figures are inline, and without JavaScript only the
sorting of the table is lost. What it says is computed from the files: metrics.json must be there,
metrics.jsonl and scaling.json may be. Runs on a store with a language model also show a few latents
of the best dictionary, for which the store is read again and the model's unembedding is used.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from dictlearn import lm as language
from dictlearn import streams
from dictlearn.analyses.examples import Study, study
from dictlearn.experiment.stream import origin
from dictlearn.report import page, records
from dictlearn.runs.trained import restore
from dictlearn.runs.workdir import replace


def write(
    config: Mapping, workdir: Path, progress: Callable[[int, int], None] | None = None
) -> Path:
    """Writes the page of the run in `workdir` and returns its path.

    config: says where the model and the store are; the page shows the config of the workdir.
    progress: called with (tokens read, tokens in all). Raises FileNotFoundError, naming the command
    that makes it, for metrics that are not there, and for a store that is gone."""
    run = records.read(Path(workdir))
    text = page.render(run, _study(config, run, progress))
    path = run.workdir / "report.html"
    replace(path, text)
    return path


def _study(config: Mapping, run: records.Run, progress) -> Study | None:
    """The latents of the best dictionary; None for a run without a language model and a store."""
    stored = config.get("model") and streams.from_harvest(config["stream"]["name"])
    found = origin(config) if stored else None
    if found is None or len(found) > 1 or any(one.path is None or one.scales for one in found):
        return None
    best = records.best(run.records).name
    dictionary = next(found for found in restore(run.workdir) if found.name == best)
    return study(dictionary, language.load(**config["model"]), config["stream"], progress=progress)
