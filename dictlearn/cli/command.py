"""Runs one verb, from the words of a command line to the exit status."""

import argparse
import logging
import sys
import traceback
from collections.abc import Sequence

from dictlearn.cli import distributed, environment, interrupt, program_cache
from dictlearn.cli.config import resolve
from dictlearn.cli.verbs import VERBS, Verb
from dictlearn.train import Stopped

KEYS = """\
Any key of the config can be set: --config.batch_size=4096 --config.sweep.k='(16, 32)'. Short for keys of
subtrees: --config.model=NAME or =PATH, --config.taps='resid.{4,8}', --config.text=PATH, --mesh.data=8.
"""
TOGETHER = (
    "Harvest, train, eval and events may run in several processes, each with the same arguments."
)
EXPECTED = (ValueError, TypeError, OSError, RuntimeError, ModuleNotFoundError, MemoryError)
"""Errors of bad input. They are printed in one line; `--debug` shows the traceback."""
UNEXPECTED = "unexpected"
"""The beginning of the line of any other error, which is a bug."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb. If one of several processes fails, it is ended here.

    Args:
        argv: the words after `dictlearn`; None for the command line of the process.

    Returns:
        The exit status: 0 for success, 1 for an error, 2 for misuse, 75 (EX_TEMPFAIL) if SIGTERM stopped the
        run with a checkpoint, 130 for Ctrl-C.
    """
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    arguments, rest = _parser().parse_known_args(argv)
    verb = VERBS[arguments.verb]
    try:
        with interrupt.twice(), environment.without_echoes():
            environment.prepare()
            program_cache.keep()
            environment.words(sys.argv[1:] if argv is None else argv)
            distributed.join(arguments, verb.together)
            config, workdir = resolve(arguments, rest, verb.from_workdir)
            verb.run(config, workdir, arguments)
    except Stopped as stopped:
        print(f"dictlearn {arguments.verb}: {stopped}")
        return interrupt.STATUS if stopped.interrupted else distributed.EX_TEMPFAIL
    except KeyboardInterrupt as error:
        print(
            f"dictlearn {arguments.verb}: interrupted; the same command continues from the saved state.",
            file=sys.stderr,
        )
        distributed.fail(interrupt.STATUS, error, arguments)
        return interrupt.STATUS
    except Exception as error:
        if arguments.debug:
            traceback.print_exc()
        else:
            print(f"dictlearn {arguments.verb}: error: {_line(error)}", file=sys.stderr)
        distributed.fail(1, error, arguments)
        return 1
    return 0


def _line(error: Exception) -> str:
    """An error in one line; an error of an unexpected kind is named by its kind."""
    message = " ".join(str(error).split())
    if lacking := environment.lacking():
        return " ".join(lacking.split())
    if isinstance(error, EXPECTED) and message:
        return message
    return f"{UNEXPECTED} {type(error).__name__}: {message}; --debug shows the traceback."


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
                epilog=None if verb.bare else KEYS,
                **style,
            ),
            verb,
        )
    return parser


def _add_flags(parser: argparse.ArgumentParser, verb: Verb) -> None:
    default = "; default the config that the workdir holds" if verb.from_workdir else ""
    config = f"a Python file with get_config(ARG){default}"
    if not verb.bare:
        parser.add_argument("--config", metavar="FILE[:ARG]", help=config)
        parser.add_argument("--workdir", metavar="DIR", help="the run's folder; default runs/NAME")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    if verb.together:
        distributed.add_arguments(parser, steps=verb.steps)
    for flag, options in verb.flags.items():
        parser.add_argument(flag, **options)
