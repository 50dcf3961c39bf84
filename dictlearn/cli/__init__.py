"""The command line: `dictlearn VERB --config=experiments/NAME.py[:ARG] --workdir=DIR`; see `verbs.py`.

JAX takes seconds to import, and so `main` imports it: Ctrl-C meanwhile ends the process at once, and what JAX
cannot read of its environment is told in a line.
"""

import sys
from collections.abc import Sequence

from dictlearn.cli import interrupt

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb; returns the exit status as `command.main` does."""
    try:
        with interrupt.at_once():
            from dictlearn.cli import command
    except Exception as error:
        message = " ".join(str(error).split())
        print(f"dictlearn: error: {message} ({type(error).__name__} of an import)", file=sys.stderr)
        return 1
    return command.main(argv)
