"""What the command line may answer to anything: a line, in bounded time and memory, and nothing unforeseen."""

import resource
import time

from dictlearn import cli
from dictlearn.cli.command import UNEXPECTED

LONGEST, MORE_KIB = 20.0, 1 << 20
"""Seconds of this process, whatever else the machine does; more memory than before."""


def answer(capsys, *argv: str) -> int:
    """The exit status of a command that may be refused."""
    started, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        code = cli.main(argv)
    except SystemExit as ended:
        code = ended.code
    said = capsys.readouterr().err
    assert code in (0, 1, 2), (argv, code)
    assert "Traceback" not in said, argv
    assert f"error: {UNEXPECTED} " not in said, (argv, said)
    begins = f"dictlearn {argv[0]}: error: "
    assert code != 1 or said.strip().splitlines()[-1].startswith(begins), (argv, said)
    assert time.process_time() - started < LONGEST, argv
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MORE_KIB, argv
    return code
