"""`dictlearn latents`: every active code of a dictionary on a text, as delphi's latent cache."""

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path

from dictlearn.cli import events
from dictlearn.interop import _latent_cache as latent_cache

FLAGS = {
    **events.FLAGS,
    "--splits": {"type": int, "default": 5, "help": "files, each with as many latents"},
}


def latents(config: Mapping, workdir: Path, arguments: Namespace) -> None:
    """Writes workdir/latents/TAP."""
    tap = config["stream"].get("tap") or config["harvest"]["taps"]
    subject, dictionary = events.dictionary_of(config, workdir, arguments)
    latent_cache.check(arguments.splits, dictionary.module.n_latents)
    found = events.cached(subject, dictionary, workdir, arguments)
    folder = workdir / "latents" / "+".join([tap] if isinstance(tap, str) else tap)
    recipe = config.get("harvest", {})
    where = {"split": recipe.get("split") or "train", "column": recipe.get("column", "text")}
    latent_cache.write(found, folder, splits=arguments.splits, **where)
    print(f"latents: {folder}")
