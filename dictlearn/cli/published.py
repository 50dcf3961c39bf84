"""The config of `dictlearn eval --dictionary=PATH`: a model, a text and a tap, from flags or from the file."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from dictlearn.cli.given import model

FLAGS = {
    "--dictionary": {"metavar": "PATH", "help": "a dictionary of any format, instead of a run"},
    "--model": {"metavar": "NAME|PATH", "help": "with --dictionary: the language model"},
    "--text": {"metavar": "PATH", "help": "with --dictionary: the text; default wiki"},
    "--tap": {"metavar": "NAME", "help": "with --dictionary: what it reads; default its own site"},
    "--length": {"type": int, "default": 128, "help": "with --dictionary: tokens of a sequence"},
    "--target": {"metavar": "NAME", "help": "with --dictionary: what a transcoder writes"},
}
HELD_OUT = 0.9
"""Fraction of the documents that is measured: all but what a stream needs."""


def asked(arguments: Namespace) -> bool:
    """Whether a published dictionary is to be measured, of any verb's arguments."""
    return bool(vars(arguments).get("dictionary"))


def config_of(arguments: Namespace, path: Path) -> dict:
    """The config that measures a dictionary.

    Args:
        arguments: the values of FLAGS; `dictionary` is loaded.
        path: its path, for messages.

    Returns:
        A config.

    Raises:
        ValueError: where neither a flag nor the file says which model or tap.
    """
    site = arguments.dictionary.sites[0] if arguments.dictionary.sites else None
    name = str(arguments.model or (site.model.get("name", "") if site else ""))
    tap = _taps(arguments.tap) or (site.tap if site else ())
    target = _taps(arguments.target) or (site.target if site and not arguments.tap else tap)
    lacking = [flag for flag, value in (("--model", name), ("--tap", tap)) if not value]
    if lacking:
        raise ValueError(
            f"{path} does not say what it was trained on; give {' and '.join(lacking)}, such "
            "as --model=smollm2 --tap=resid.9."
        )
    own = target if target != tap else ()
    return {
        **{"seed": 0, "steps": 1, "batch_size": 1024},
        "model": model(name),
        "harvest": {
            "taps": (*tap, *own),
            "text": arguments.text or "wiki",
            "held_out": HELD_OUT,
            "sequence_length": arguments.length,
        },
        "stream": {"name": "from_lm", "tap": tap, **({"target": own} if own else {})},
    }


def _taps(given: str | None) -> Sequence[str]:
    return tuple(given.split(",")) if given else ()
