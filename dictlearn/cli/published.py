"""The config of `dictlearn eval --dictionary=PATH`: a model, a text and a tap, from flags or from the file."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from dictlearn import interop

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


def config_of(arguments: Namespace) -> dict:
    """The config that measures `arguments.dictionary`.

    Args:
        arguments: the values of FLAGS.

    Returns:
        A config.

    Raises:
        ValueError: for a dictionary that is in no known format, and where neither a flag nor the file says
            which model or tap.
    """
    trained = interop.load(arguments.dictionary)
    site = trained.sites[0] if trained.sites else None
    name = str(arguments.model or (site.model.get("name", "") if site else ""))
    tap = _taps(arguments.tap) or (site.tap if site else ())
    target = _taps(arguments.target) or (site.target if site and not arguments.tap else tap)
    lacking = [flag for flag, value in (("--model", name), ("--tap", tap)) if not value]
    if lacking:
        raise ValueError(
            f"{arguments.dictionary} does not say what it was trained on; give {' and '.join(lacking)}, such "
            "as --model=smollm2 --tap=resid.9."
        )
    local = Path(name).exists()
    own = target if target != tap else ()
    return {
        **{"seed": 0, "steps": 1, "batch_size": 1024},
        "model": {"name": Path(name).resolve().name, "path": name} if local else {"name": name},
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
