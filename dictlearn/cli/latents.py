"""`dictlearn latents`: every active code of a dictionary on a text, as delphi's latent cache."""

from collections.abc import Mapping
from pathlib import Path

from dictlearn import lm as language
from dictlearn.cli import published
from dictlearn.cli.progress import Progress
from dictlearn.interop import _latent_cache as latent_cache

FLAGS = {
    **published.FLAGS,
    "--dictionary": {"metavar": "PATH", "required": True, "help": "a dictionary of any format"},
    "--splits": {"type": int, "default": 5, "help": "files, each with as many latents"},
    "--n_tokens": {"type": int, "help": "tokens of the text; default all"},
}


def latents(config: Mapping, workdir: Path, arguments) -> None:
    """Writes workdir/latents/TAP."""
    tap = config["stream"]["tap"]
    folder = workdir / "latents" / "+".join(tap)
    recipe = {k: v for k, v in config["harvest"].items() if k not in ("taps", "held_out")}
    with Progress("latents", "sequences") as progress:
        latent_cache.write(
            arguments.dictionary,
            language.load(**config["model"]),
            tap,
            folder,
            splits=arguments.splits,
            progress=progress,
            n_tokens=arguments.n_tokens,
            **recipe,
        )
    print(f"latents: {folder}")
