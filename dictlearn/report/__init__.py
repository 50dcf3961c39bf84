"""The page `report.html`: curves, tables, latents and analyses of a run, from its workdir alone.

The page is one file without external resources: figures are inline, and without JavaScript only the
sorting of the table is lost. It is computed from the files of the workdir: metrics.json is required,
metrics.jsonl and scaling.json are optional. A run on a store with a language model also shows a few latents of
its best dictionary. For them the store is read again and the model's unembedding is used.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from dictlearn import streams
from dictlearn.analyses import Subject
from dictlearn.analyses.examples import Study, study
from dictlearn.experiment.stream import origin
from dictlearn.report import page, records
from dictlearn.runs.workdir import replace


def write(
    config: Mapping,
    workdir: Path,
    progress: Callable[[int, int], None] | None = None,
    allow_changed: bool = False,
) -> Path:
    """Writes the page of a run.

    Args:
        config: says where the model and the store are; the page shows the config of the workdir.
        workdir: the workdir of the run.
        progress: called with (tokens read, tokens in total).
        allow_changed: whether latents are shown even on other activations than the run was trained on.

    Returns:
        The path of the page.

    Raises:
        FileNotFoundError: for missing metrics, naming the command that writes them, and for a missing store.
        ValueError: for a store with other activations than the run was trained on.
    """
    run = records.read(Path(workdir))
    text = page.render(run, _study(config, run, progress, allow_changed))
    path = run.workdir / "report.html"
    replace(path, text)
    return path


def _study(config: Mapping, run: records.Run, progress, allow_changed: bool) -> Study | None:
    """The latents of the best dictionary; None for a run without a language model or without a store."""
    stored = config.get("model") and streams.from_harvest(config["stream"]["name"])
    found = origin(config) if stored else None
    if found is None or len(found) > 1 or any(one.path is None or one.scales for one in found):
        return None
    best = records.best(run.records).name
    subject = Subject(run.workdir.name, run.workdir, setup=config, allow_changed=allow_changed)
    dictionary = next(found for found in subject.trained if found.name == best)
    subject.check_data()
    return study(dictionary, subject.lm, config["stream"], progress=progress)
