"""The command line: `dictlearn VERB --config=experiments/NAME.py[:ARG] --workdir=DIR`; see `verbs.py`."""

import argparse
import logging
import sys
import traceback
from collections.abc import Sequence

from dictlearn.cli import distributed
from dictlearn.cli.config import resolve
from dictlearn.cli.verbs import VERBS, Verb
from dictlearn.train import Stopped

__all__ = ["VERBS", "main"]

KEYS = """\
Any key of the config can be set: --config.batch_size=4096 --config.sweep.k='(16, 32)'. Short for keys of
subtrees: --config.model=NAME or =PATH, --config.taps='resid.{4,8}', --config.text=PATH, --mesh.data=8.
"""
TOGETHER = "Harvest, train and eval may run in several processes, each with the same arguments."
EXPECTED = (ValueError, TypeError, OSError, RuntimeError, ModuleNotFoundError)
"""What bad input raises; it is told in a line, and `--debug` shows where it came from."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb; returns the exit status: 0 done, 1 an error, 2 misuse, 75 (EX_TEMPFAIL) stopped by
    SIGTERM with a checkpoint. One of several processes that fails is ended here."""
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    arguments, rest = _parser().parse_known_args(argv)
    verb = VERBS[arguments.verb]
    try:
        distributed.join(arguments, verb.together)
        config, workdir = resolve(arguments, rest, verb.from_workdir)
        verb.run(config, workdir, arguments)
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


def _parser() -> argparse.ArgumentParser:
    style = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
    usage = "dictlearn VERB --config=experiments/NAME.py[:ARG] --workdir=DIR"
    epilog = f"{KEYS}\n{TOGETHER}"
    parser = argparse.ArgumentParser(prog="dictlearn", usage=usage, epilog=epilog, **style)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, verb in VERBS.items():
        _add_flags(
            verbs.add_parser(
                name,
                prog=f"dictlearn {name}",
                help=verb.help,
                description=verb.help,
                epilog=KEYS,
                **style,
            ),
            verb,
        )
    return parser


def _add_flags(parser: argparse.ArgumentParser, verb: Verb) -> None:
    default = "; default the config that the workdir holds" if verb.from_workdir else ""
    config = f"a Python file with get_config(ARG){default}"
    parser.add_argument("--config", metavar="FILE[:ARG]", help=config)
    parser.add_argument("--workdir", metavar="DIR", help="the run's folder; default runs/NAME")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    if verb.together:
        distributed.add_arguments(parser, steps=verb.steps)
    for flag, options in verb.flags.items():
        parser.add_argument(flag, **options)
