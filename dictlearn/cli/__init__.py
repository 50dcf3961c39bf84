"""The command line: `dictlearn VERB --config=experiments/NAME.py[:ARG] --workdir=DIR`; see `verbs.py`.

JAX takes seconds to import, so `main` imports it. Ctrl-C during the import ends the process at once, and an
environment variable that JAX cannot parse is an error in one line.
"""

import sys
from collections.abc import Sequence

from dictlearn.cli import interrupt

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb.

    Args:
        argv: the words after `dictlearn`; None for the command line of the process.

    Returns:
        The exit status, as `command.main` does.
    """
    try:
        with interrupt.at_once():
            from dictlearn.cli import command
    except Exception as error:
        message = " ".join(str(error).split())
        print(f"dictlearn: error: {message} ({type(error).__name__} of an import)", file=sys.stderr)
        return 1
    return command.main(argv)
