"""The config of `dictlearn eval --dictionary=PATH`: a model, a text and a tap, from flags or from the file."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from dictlearn.cli.given import model

FLAGS = {
    "--dictionary": {"metavar": "PATH", "help": "a dictionary of any format, instead of a run"},
    "--model": {"metavar": "NAME|PATH", "help": "with --dictionary: the language model"},
    "--text": {"metavar": "PATH", "help": "with --dictionary: the text; default wiki"},
    "--tap": {
        "metavar": "NAME",
        "help": "with --dictionary: the tap that it reads; default that of the file",
    },
    "--length": {"type": int, "default": 128, "help": "with --dictionary: tokens of a sequence"},
    "--target": {"metavar": "NAME", "help": "with --dictionary: the tap that a transcoder writes"},
}
HELD_OUT = 0.9
"""The fraction of the documents that is measured; a stream needs the rest."""


def asked(arguments: Namespace) -> bool:
    """Whether the arguments, of any verb, name a published dictionary to measure."""
    return bool(vars(arguments).get("dictionary"))


def config_of(arguments: Namespace, path: Path) -> dict:
    """The config that measures a dictionary.

    Args:
        arguments: the values of FLAGS; `dictionary` is loaded.
        path: its path, for messages.

    Returns:
        A config.

    Raises:
        ValueError: if neither a flag nor the file states the model or the tap.
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
