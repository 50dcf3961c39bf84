"""The verbs: functions of a config and a workdir, and the table of all verbs.

A verb itself imports the modules that only it uses and that take long to import (Matplotlib, SciPy).
"""

import json
import math
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
from rich.console import Console

from dictlearn import analyses, meters, sharding
from dictlearn import lm as language
from dictlearn.cli import (
    benchmark,
    budget,
    circuit,
    distributed,
    events,
    exports,
    features,
    fit,
    latents,
    published,
    release,
    serve,
    steer,
)
from dictlearn.cli.analyse import analyse, every
from dictlearn.cli.progress import Progress
from dictlearn.evaluate import check, evaluate
from dictlearn.experiment import members
from dictlearn.harvest import harvest
from dictlearn.runs import health, parts
from dictlearn.runs.trained import Trained
from dictlearn.runs.workdir import write_json
from dictlearn.streams import Stream
from dictlearn.train import train


class Verb(NamedTuple):
    """run: (config, workdir, parsed arguments) -> None. flags: its own flags, as `add_argument` takes them.
    from_workdir: whether the config may be the one in the workdir. together: whether several processes may
    run it. steps: whether its work has steps, which are watched. bare: whether it reads no config.
    """

    run: Callable[[Mapping, Path, Any], None]
    help: str
    flags: Mapping[str, Mapping[str, Any]] = {}
    from_workdir: bool = False
    together: bool = False
    steps: bool = False
    bare: bool = False


def _harvest(config: Mapping, workdir: Path, arguments) -> None:
    for name in ("model", "harvest"):
        if name not in config:
            raise ValueError(f"config.{name} is missing; a harvest needs model and harvest.")
    path = config.get("stream", {}).get("path", workdir / "activations")
    with Progress("harvest", "tokens") as progress:
        ways = math.gcd(config.get("mesh", {}).get("model", 1), jax.local_device_count())
        mesh = sharding.local_mesh(jax.local_device_count(), ways) if ways > 1 else None
        lm = language.load(**config["model"], mesh=mesh)
        settings = {"seed": config["seed"], **config["harvest"]}
        harvest(lm, path, progress=progress, allow_changed=arguments.allow_changed, **settings)
    print(f"activations: {path}")


def _plan(config: Mapping, workdir: Path, arguments) -> None:
    from dictlearn.plan import plan, table, topology

    if arguments.topology:
        jax.config.update("jax_platforms", "cpu")
    here = None if arguments.topology or not arguments.measured else topology.measured()
    for own, _ in parts.unfinished(config, workdir):
        found = plan(own, arguments.topology, arguments.d_in, here)
        if arguments.json:
            print(json.dumps(found, indent=1))
        else:
            table.show(found, Console(width=None if sys.stdout.isatty() else 140))


def _train(config: Mapping, workdir: Path, arguments) -> None:
    left = parts.unfinished(config, workdir)
    budget.keep([own for own, _ in left])
    for own, part in left:
        _train_part(own, workdir, part, arguments)
    _analyses(config, workdir, arguments)


def _train_part(config: Mapping, grid: Path, workdir: Path, arguments) -> None:
    """Trains and measures the run in `workdir`, a part of a grid."""
    started = time.perf_counter()
    with (
        distributed.Watch(arguments.step_timeout) as watch,
        Progress("train", "tokens") as progress,
    ):

        def step(done: int, total: int) -> None:
            watch.step()
            progress(done, total)

        allowed = arguments.allow_changed

        def opened(stream: Stream) -> None:
            parts.refuse_data_of_others(grid, workdir, stream.fingerprint, allowed)
            check(config, stream, allowed)
            analyses.check_run(config.get("analyses", {}), config, stream)

        train(config, workdir, step, allowed, opened)
    seconds = time.perf_counter() - started
    write_json(
        workdir / "timing.json", {"train_seconds": seconds, "tokens_per_second": progress.rate}
    )
    _measured(config, workdir, arguments, None)
    health.warn(workdir / "metrics.jsonl", members(config), config["steps"])


def _analyses(config: Mapping, workdir: Path, arguments) -> None:
    if distributed.is_multiprocess() and config.get("analyses"):
        print(f"Analyses run in one process: dictlearn analyse --workdir={workdir}")
    else:
        every(config, workdir, arguments.allow_changed)


def _eval(config: Mapping, workdir: Path, arguments) -> None:
    if arguments.dictionary:
        _measured(config, workdir, arguments, arguments.dictionary)
    else:
        for part in parts.parts(workdir):
            _measured(config, part, arguments, None)
        _analyses(config, workdir, arguments)


def _measured(config: Mapping, workdir: Path, arguments, trained: Trained | None) -> None:
    with Progress("eval", "tokens") as progress:
        found = evaluate(config, workdir, progress, arguments.allow_changed, trained)
    for name, metrics in found.items():
        shown = [column.metric for column in meters.headlines()]
        values = "  ".join(f"{key} {metrics[key]:.4g}" for key in shown if key in metrics)
        print(f"{name:24} {values}")
    print(f"metrics: {workdir / 'metrics.json'}")


def _report(config: Mapping, workdir: Path, arguments) -> None:
    from dictlearn import report

    with Progress("report", "tokens") as progress:
        path = report.write(config, workdir, progress, arguments.allow_changed)
    print(f"report: {path}")


_ON = {"action": "store_true"}
_CHANGED = {
    "--allow_changed": {**_ON, "help": "continue although config, model or data have changed"}
}

VERBS = {
    "harvest": Verb(
        _harvest,
        "run the language model once and store its activations (config.model, config.harvest)",
        _CHANGED,
        together=True,
    ),
    "plan": Verb(
        _plan,
        "what a run will need, cell by cell: compiled for --topology=v5p:4x4x4, or for the devices present",
        {
            "--topology": {"help": "a TPU slice, such as v5p:4x4x4; default the devices present"},
            "--measured": {**_ON, "help": "seconds, from rates measured on the devices present"},
            "--d_in": {"type": int, "help": "the width, if neither model nor stream states it"},
            "--json": {**_ON, "help": "print JSON"},
        },
    ),
    "train": Verb(
        _train,
        "train every dictionary of the sweep, or resume training; then eval",
        _CHANGED,
        together=True,
        steps=True,
    ),
    "eval": Verb(
        _eval,
        "measure every dictionary on held-out data -> metrics.json; then config.analyses",
        _CHANGED | published.FLAGS,
        from_workdir=True,
        together=True,
    ),
    "fit": Verb(
        fit.fit,
        "fit a scaling law to the dictionaries of runs -> scaling.json, scaling.svg",
        fit.FLAGS,
        from_workdir=True,
    ),
    "analyse": Verb(
        analyse,
        "analyse trained dictionaries -> analyses/NAME.json, analyses/NAME.svg",
        _CHANGED
        | {
            "words": {
                "nargs": "*",
                "metavar": "NAME [SUBJECT ...]",
                "help": "an analysis and its runs; default the workdir. Without a name, "
                "all of config.analyses. --NAME.SETTING=VALUE sets a setting",
            }
        },
        from_workdir=True,
    ),
    "benchmark": Verb(
        benchmark.benchmark,
        "a suite of evaluations over many dictionaries: --suite=packaged --dictionary=A --dictionary=B",
        benchmark.FLAGS,
        bare=True,
    ),
    "report": Verb(_report, "one page with everything -> report.html", _CHANGED, from_workdir=True),
    "export": Verb(
        exports.export,
        "write the dictionaries as files -> --out",
        exports.EXPORT_FLAGS,
        from_workdir=True,
    ),
    "events": Verb(
        events.events,
        "every active code of a dictionary on a text, sorted by latent -> events/NAME",
        _CHANGED | events.FLAGS,
        from_workdir=True,
        together=True,
    ),
    "features": Verb(
        features.features,
        "a page for every latent of a dictionary -> features/NAME/index.html",
        _CHANGED | features.FLAGS,
        from_workdir=True,
    ),
    "serve": Verb(
        serve.serve,
        "show these pages, and the latents of any text that you type, on http://127.0.0.1:8765",
        _CHANGED | serve.FLAGS,
        from_workdir=True,
    ),
    "latents": Verb(
        latents.latents,
        "the same events for delphi, Neuronpedia or circuit-tracer -> latents/TAP",
        _CHANGED | latents.FLAGS,
        from_workdir=True,
    ),
    "steer": Verb(
        steer.steer,
        "continue a prompt while a latent is set, scaled or pushed to a KL",
        _CHANGED | steer.FLAGS,
        from_workdir=True,
    ),
    "circuit": Verb(
        circuit.circuit,
        "the attribution graphs of prompts through transcoders: a page, and circuit-tracer's JSON",
        circuit.FLAGS,
        bare=True,
    ),
    "convert": Verb(
        exports.convert,
        "convert a dictionary file to another format: dictlearn convert SRC DST --to=NAME",
        exports.CONVERT_FLAGS,
        bare=True,
    ),
    "push": Verb(
        release.push,
        "upload dictionaries to the hub, with a card: dictlearn push RUN|PATH OWNER/NAME",
        release.PUSH_FLAGS,
        bare=True,
    ),
    "pull": Verb(
        release.pull,
        "download a repository of dictionaries from the hub: dictlearn pull OWNER/NAME DIR",
        release.PULL_FLAGS,
        bare=True,
    ),
}
