"""The command line: `dictlearn VERB --config=experiments/NAME.py[:ARG] --workdir=DIR`.

    harvest   run the language model once and keep its activations   (config.model, config.harvest)
    plan      what a run will need: compiled for --topology=v5p:4x4x4, or for the devices present
    train     train, or go on training, every dictionary of the sweep; then eval
    eval      measure every dictionary on held-out data              -> metrics.json
    fit       fit the scaling law to the sweep                       -> scaling.json, scaling.png
    compare   kinds of dictionaries side by side, at one L0          -> frontier.json, frontier.png
              A B: two runs, exports, or folders of a run a layer    -> similarity.json, similarity.png
    report    one page with everything                               -> report.html
    export    the dictionaries as files for others                   -> --out

Any key of the config can be set: --config.batch_size=4096 --config.sweep.k='(16, 32)'. Short for keys of
subtrees: --config.model=NAME or =PATH, --config.taps='resid.{4,8}', --config.text=PATH, --mesh.data=8.

Harvest, train and eval may run in several processes, each with the same arguments (cli/distributed.py).
"""

import argparse
import json
import logging
import math
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax
from rich.console import Console

from dictlearn import interop, report, sharding
from dictlearn import lm as language
from dictlearn.analyses.frontier import frontier, show
from dictlearn.analyses.similarity import similarity
from dictlearn.cli import distributed
from dictlearn.cli.config import misuse, read
from dictlearn.cli.progress import Progress
from dictlearn.evaluate import PURSUITS, evaluate
from dictlearn.harvest import harvest
from dictlearn.plan import plan, table
from dictlearn.report import heat
from dictlearn.runs.workdir import read_json, write_json
from dictlearn.scaling import fit
from dictlearn.train import Stopped, train

EXPECTED = (ValueError, TypeError, OSError, RuntimeError, ModuleNotFoundError)
"""What bad input raises; it is told in a line, and `--debug` shows where it came from."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb; returns the exit status: 0 done, 1 an error, 2 misuse, 75 (EX_TEMPFAIL) stopped by
    SIGTERM with a checkpoint. One of several processes that fails is ended here."""
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    arguments, rest = _parser().parse_known_args(argv)
    try:
        distributed.join(arguments, arguments.verb in TOGETHER)
        config, workdir = _config(arguments, rest)
        VERBS[arguments.verb](config, workdir, arguments)
    except Stopped as stopped:
        print(f"dictlearn {arguments.verb}: {stopped}")
        return distributed.AGAIN
    except Exception as error:
        if isinstance(error, EXPECTED) and not arguments.debug:
            message = " ".join(str(error).split())
            print(f"dictlearn {arguments.verb}: error: {message}", file=sys.stderr)
        elif distributed.several():
            traceback.print_exc()
        else:
            raise
        distributed.fail(1, error, arguments)
        return 1
    return 0


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
        harvest(lm, path, progress=progress, **settings)
    print(f"activations: {path}")


def _plan(config: Mapping, workdir: Path, arguments) -> None:
    if arguments.topology:
        jax.config.update("jax_platforms", "cpu")
    found = plan(config, arguments.topology, arguments.d_in)
    if arguments.json:
        print(json.dumps(found, indent=1))
    else:
        table.show(found, Console(width=None if sys.stdout.isatty() else 140))


def _train(config: Mapping, workdir: Path, arguments) -> None:
    started = time.perf_counter()
    with (
        distributed.Watch(arguments.step_timeout) as watch,
        Progress("train", "tokens") as progress,
    ):

        def step(done: int, total: int) -> None:
            watch.step()
            progress(done, total)

        train(config, workdir, step, arguments.allow_changed)
    seconds = time.perf_counter() - started
    write_json(
        workdir / "timing.json", {"train_seconds": seconds, "tokens_per_second": progress.rate}
    )
    _evaluate(config, workdir, arguments)


def _evaluate(config: Mapping, workdir: Path, arguments) -> None:
    with Progress("eval", "tokens") as progress:
        found = evaluate(config, workdir, progress)
    for name, metrics in found.items():
        shown = ("explained_variance", "l0", "dead_fraction", "ce_score")
        values = "  ".join(f"{key} {metrics[key]:.4g}" for key in shown if key in metrics)
        print(f"{name:24} {values}")
    print(f"metrics: {workdir / 'metrics.json'}")


def _fit(config: Mapping, workdir: Path, arguments) -> None:
    metrics = read_json(workdir / "metrics.json", f"dictlearn eval --workdir={workdir}")
    found = fit(metrics, workdir)
    print(found["law"])
    for name, value in found["parameters"].items():
        print(f"{name:8} {value['value']: .4f}  [{value['low']: .4f}, {value['high']: .4f}]")
    print(
        f"held-out cells: worst {found['held_out_worst']:.2%}, median {found['held_out_median']:.2%}"
    )
    print(f"law: {workdir / 'scaling.json'}, {workdir / 'scaling.png'}")


def _compare(config: Mapping, workdir: Path, arguments) -> None:
    if arguments.sides:
        a, b = map(Path, arguments.sides)
        _similarity(a, b, workdir)
        return
    metrics = read_json(workdir / "metrics.json", f"dictlearn eval --workdir={workdir}")
    if (workdir / PURSUITS).exists():
        metrics |= read_json(workdir / PURSUITS, f"dictlearn eval --workdir={workdir}")
    width = None if sys.stdout.isatty() else 120
    show(frontier(metrics, workdir, arguments.l0), Console(width=width))
    print(f"comparison: {workdir / 'compare.json'}, {workdir / 'compare.png'}")


def _similarity(a: Path, b: Path, out: Path) -> None:
    found = similarity(a, b)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "similarity.json", found)
    heat.draw(found, out / "similarity.png")
    for name, score in found.get("scores", {}).items():
        print(f"{name:12} layers matched {score:.3f}")
    for name, rows in found["measures"].items() if found["kind"] == "dictionaries" else ():
        print(f"{name:20} {'  '.join(str(value) for row in rows for value in row)}")
    print(f"similarity: {out / 'similarity.json'}, {out / 'similarity.png'}")


def _report(config: Mapping, workdir: Path, arguments) -> None:
    with Progress("report", "tokens") as progress:
        path = report.write(config, workdir, progress)
    print(f"report: {path}")


def _export(config: Mapping, workdir: Path, arguments) -> None:
    for path in interop.export(
        workdir, arguments.format, Path(arguments.out or workdir / "export")
    ):
        print(path)


TOGETHER = ("harvest", "train", "eval")
"""What several processes do together."""

VERBS: dict[str, Callable] = {
    "harvest": _harvest,
    "plan": _plan,
    "train": _train,
    "eval": _evaluate,
    "fit": _fit,
    "compare": _compare,
    "report": _report,
    "export": _export,
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dictlearn",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    lines = {line.split()[0]: line for line in (__doc__ or "").splitlines() if line[:4] == "    "}
    for verb in VERBS:
        text = lines[verb].split(maxsplit=1)[1]
        sub = verbs.add_parser(
            verb,
            help=text,
            description=text,
            allow_abbrev=False,
            epilog="Any key of the config: --config.KEY=VALUE, --config.SUBTREE.KEY=VALUE.",
        )
        sub.add_argument("--config", metavar="FILE[:ARG]", help=_CONFIG_HELP[verb in _FROM_WORKDIR])
        sub.add_argument("--workdir", metavar="DIR", help="the run's folder; default runs/NAME")
        sub.add_argument("--debug", action="store_true", help="show the traceback of an error")
        if verb in TOGETHER:
            distributed.add_arguments(sub, steps=verb == "train")
        if verb == "train":
            sub.add_argument(
                "--allow_changed", action="store_true", help="go on although the config has changed"
            )
        if verb == "compare":
            sub.add_argument("sides", nargs="*", metavar="A B", help="what to compare, or nothing")
            sub.add_argument("--out", metavar="DIR", help="folder of the files; default runs/A-B")
            sub.add_argument(
                "--l0", type=float, help="where the table compares; default the middle"
            )
        if verb == "plan":
            sub.add_argument("--topology", help="a TPU slice, as v5p:4x4x4; default these devices")
            sub.add_argument("--d_in", type=int, help="width, where model and stream cannot say")
            sub.add_argument("--json", action="store_true", help="print JSON")
        if verb == "export":
            sub.add_argument("--format", default="npz", help=f"one of {', '.join(interop.names())}")
            sub.add_argument("--out", metavar="DIR", help="folder of the files; default DIR/export")
    return parser


_FROM_WORKDIR = ("eval", "fit", "compare", "report", "export")
_CONFIG_HELP = (
    "a Python file with get_config(ARG)",
    "a Python file with get_config(ARG); default the config that the workdir holds",
)


def _config(arguments, rest: Sequence[str]) -> tuple[dict, Path]:
    """The config as nested dicts, and the workdir."""
    if getattr(arguments, "sides", None):
        if len(arguments.sides) != 2 or arguments.config or arguments.workdir or rest:
            misuse("compare takes two sides, A B, and --out; or --config or --workdir of one run.")
        names = "-".join(Path(side).stem for side in arguments.sides)
        return {}, Path(arguments.out or Path("runs") / names)
    if arguments.config is None:
        if arguments.verb not in _FROM_WORKDIR or arguments.workdir is None:
            more = " or --workdir=DIR" if arguments.verb in _FROM_WORKDIR else ""
            misuse(f"{arguments.verb} needs --config=experiments/NAME.py{more}.")
        if rest:
            misuse(f"unknown argument {rest[0]!r}; without --config nothing else can be set.")
        workdir = Path(arguments.workdir)
        return read_json(workdir / "config.json", "dictlearn train"), workdir
    name, _, arg = arguments.config.partition(":")
    file = Path(name)
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist; --config names an experiment's file.")
    config = read(file, arg, rest)
    workdir = Path(arguments.workdir or Path("runs") / file.stem)
    if config.get("stream", {}).get("name") == "store":
        config["stream"].setdefault("path", str(workdir / "activations"))
    return config, workdir
