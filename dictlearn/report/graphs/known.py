"""What is known of the latents of a graph: labels and windows from workdirs, and the logits that they raise.

    explanations/NAME.jsonl    the label of a latent and its score
    events/NAME                its density, its largest activation and the windows of its largest activations

NAME is that of the dictionary. Both are read where they are. The logits come from the atoms alone.
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dictlearn import events
from dictlearn.analyses import _events, _explanations, _logits
from dictlearn.circuits import _directions
from dictlearn.circuits._places import places
from dictlearn.events import cache, windows, writer
from dictlearn.lm import LM
from dictlearn.report.features.passages import Passages, Window
from dictlearn.runs.trained import Trained

Latent = tuple[int, int]
"""A latent of a graph: its layer, and its number in the dictionary."""
WINDOWS, LOGITS = 5, 5


def known(
    lm: LM,
    dictionaries: Sequence[Trained],
    latents: Collection[Latent],
    workdirs: Sequence[Path | None] = (),
) -> dict[Latent, dict[str, Any]]:
    """What the page says of latents.

    Args:
        lm, dictionaries: the language model and the dictionaries of the graphs.
        latents: the latents.
        workdirs: for each dictionary the folder with its explanations and events, or None.

    Returns:
        {latent: {"raises", and where they are known "label", "score", "density", "largest", "windows"}}.

    Raises:
        ValueError: for dictionaries that no graph can be made of, for a file that holds no explanations, and
            for the events of another dictionary.
    """
    found: dict[Latent, dict[str, Any]] = {}
    folders = workdirs or [None] * len(dictionaries)
    for place, folder in zip(places(lm, dictionaries)[1], folders, strict=True):
        own = sorted(one for one in set(latents) if one[0] in place.layers)
        told = _raised(lm, place.dictionary, own, len(place.layers))
        if folder is not None:
            _explained(place.dictionary, folder, told)
            _seen(lm, place.dictionary, folder, told)
        found |= told
    return found


def _raised(lm: LM, one: Trained, latents: Sequence[Latent], n_layers: int) -> dict[Latent, dict]:
    """The tokens whose logits each latent raises most, by all that it writes."""
    if not latents:
        return {}
    numbers_N = np.array([latent for _, latent in latents])
    atoms_NLD = _directions.atoms(one, numbers_N, n_layers, lm.spec.d_model)
    ends = _logits.direct(lm, atoms_NLD.sum(1), LOGITS)
    said = zip(ends.top_IK, ends.top_weight_IK, strict=True)
    words = [[text for text, _ in _logits.named(lm, *pair)] for pair in said]
    return {own: {"raises": raised} for own, raised in zip(latents, words, strict=True)}


def _explained(one: Trained, folder: Path, told: dict[Latent, dict]) -> None:
    lines = _explanations.read(_explanations.file(folder, one.name))
    for own, about in told.items():
        if line := lines.get(own[1]):
            about |= {"label": line["text"], "score": line["score"]}


def _seen(lm: LM, one: Trained, folder: Path, told: dict[Latent, dict]) -> None:
    """Adds what the event cache of a dictionary says."""
    path = _events.folder(folder, one)
    if not (path / cache.MANIFEST).is_file():
        return
    found = events.read(path)
    if found.recipe["dictionary"] != writer.identity(one):
        raise ValueError(f"{path} is the event cache of another dictionary; remove it.")
    lm.check_tokens(np.asarray(found.tokens_ST), f"The text of {path}")
    passages = Passages(lm, found)
    for (_, latent), about in told.items():
        best = windows.top(found, latent, WINDOWS, passages.bounds).tolist()
        about["density"] = float(found.density_F[latent])
        about["largest"] = float(np.abs(found.of(latent)[1]).max(initial=0.0))
        about["windows"] = [_plain(passages.window(latent, place)) for place in best]


def _plain(one: Window) -> dict[str, Any]:
    """A window as JSON: its cells, and the activations of those where the latent fires, by their numbers."""
    fires = {i: float(f"{val:.4g}") for i, (_, val) in enumerate(one.cells) if val}
    cells = [text for text, _ in one.cells]
    return {"cells": cells, "fires": fires, "peak": one.peak, "val": float(f"{one.val:.4g}")}
