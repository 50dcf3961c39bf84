"""Features as SAEDashboard writes them for Neuronpedia, from an event cache: `batch-0.json`, ...

    batch      model_id, layer, sae_set, sae_id_suffix, features
    feature    feature_index, frac_nonzero, the histogram of its activations (freq_hist_data_bar_*), the tokens
               whose logits it raises (pos_*) and lowers (neg_*) most, the histogram of all logits
               (logits_hist_data_bar_*), and activations: whole sequences around single tokens
    activation tokens, values, qualifying_token_index, and its group: bin_min, bin_max, bin_contains

The groups are those of `_feature_text.py`: the largest activations (bin_min -1, bin_max the largest,
bin_contains -1), then intervals; bin_contains is the share of all tokens in the interval. Latents that never
fire are in `skipped_indexes.json`.

Source: sae-dashboard 0.8.0, its `neuronpedia` folder and `sequence_data_generator.py`.
Differs: numbers have five significant digits, where SAEDashboard has three decimals. Correlations with
neurons are not computed; their lists are empty. Correlated features are positive ones only, on the first
million tokens.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dictlearn import files
from dictlearn import lm as language
from dictlearn.analyses import _logits
from dictlearn.analyses._feature_text import groups, histogram, layer, sequence, short
from dictlearn.analyses._passages import readable
from dictlearn.events import Events, near
from dictlearn.runs.atoms import aligned, atoms
from dictlearn.runs.trained import Trained
from dictlearn.runs.workdir import write_json

BINS, LOGITS, ROWS = 50, 10, 3
_EMPTY = (
    *("correlated_neurons_indices", "correlated_neurons_l1", "correlated_neurons_pearson"),
    *("decoder_weights_dist", "vector"),
)
_LOGITS = (
    *("pos_str", "pos_values", "neg_str", "neg_values"),
    *("logits_hist_data_bar_values", "logits_hist_data_bar_heights"),
)


def write(
    dictionary: Trained,
    lm: language.LM,
    found: Events,
    target: Sequence[str],
    folder: Path,
    splits: int,
) -> None:
    """Writes the features of a dictionary.

    Args:
        dictionary: the dictionary.
        lm: the model that it reads.
        found: every active code of the dictionary on a text.
        target: the taps that it writes, concatenated.
        folder: the folder of the files, replaced as a whole.
        splits: the number of batches, each with as many features.

    Raises:
        ValueError: for more batches than latents that fire.
    """
    fired = np.flatnonzero(found.count_F).tolist()
    if not 1 <= splits <= len(fired):
        raise ValueError(
            f"{splits=} must be at least 1 and at most the {len(fired)} latents that fire."
        )
    about = {
        "model_id": lm.name,
        "layer": layer(target),
        "sae_set": dictionary.name,
    }
    tables = _Tables(dictionary, found)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with files.whole(folder) as half:
        half.mkdir()
        for n, part in enumerate(np.array_split(fired, splits)):
            features = list(_features(dictionary, lm, found, target, tables, part.tolist()))
            batch = {**about, "sae_id_suffix": None, "features": features}
            (half / f"batch-{n}.json").write_text(json.dumps(batch), "utf-8")
        never = sorted({*range(found.n_latents)} - {*fired})
        write_json(half / "skipped_indexes.json", {**about, "skipped_indexes": never})


def _features(
    dictionary: Trained,
    lm: language.LM,
    found: Events,
    target: Sequence[str],
    tables: "_Tables",
    latents: list[int],
) -> Iterator[dict[str, Any]]:
    """The features of these latents."""
    for latent, effects in zip(latents, _effects(dictionary, lm, target, latents), strict=True):
        values, heights = histogram(found.of(latent)[1], BINS)
        yield {
            "feature_index": latent,
            **{key: [] for key in _EMPTY},
            **tables.of(latent),
            **effects,
            "frac_nonzero": float(found.density_F[latent]),
            "freq_hist_data_bar_values": values,
            "freq_hist_data_bar_heights": heights,
            "n_prompts_total": len(found.tokens_ST),
            "n_tokens_in_prompt": found.length,
            "dataset": str(found.recipe["rows"]["text"]["source"]),
            "activations": list(_activations(lm, found, latent)),
        }


class _Tables:
    """The dimensions of the atoms and the correlated features; in the latter "l1" is the cosine."""

    def __init__(self, dictionary: Trained, found: Events):
        self._found = near.compared(found)
        self._atoms_FD, self._like = atoms(dictionary), near.pearson(self._found, ROWS)

    def of(self, latent: int) -> dict[str, list]:
        """The lists of a feature."""
        like = [(i, r, near.code_cosine(self._found, latent, i)) for i, r in self._like.of(latent)]
        return {
            **_columns("neuron_alignment", "values", aligned(self._atoms_FD[latent], ROWS)),
            **_columns("correlated_features", "pearson", like),
        }


def _columns(name: str, values: str, rows: Sequence[tuple]) -> dict[str, list]:
    """The rows of a table as lists, by column."""
    lists = zip(*rows, strict=True) if rows else ((), (), ())
    keys = (f"{name}_indices", f"{name}_{values}", f"{name}_l1")
    return {key: list(one) for key, one in zip(keys, lists, strict=True)}


def _effects(
    dictionary: Trained, lm: language.LM, target: Sequence[str], latents: list[int]
) -> list[dict[str, list]]:
    """What each feature does to the logits; empty lists where that is not known."""
    written_ID = _logits.of_latents(dictionary, lm, target, latents)
    if written_ID is None:
        return [{key: [] for key in _LOGITS}] * len(latents)
    found = _logits.direct(lm, written_ID, LOGITS, BINS)
    said = lambda tokens: [readable(lm.tokenizer, v) for v in tokens.tolist()]
    told = []
    for top, most, bottom, least, count in zip(*found, strict=True):
        edges = np.linspace(least[0], most[0], BINS + 1)
        ends = said(top), short(most), said(bottom), short(least)
        bars = short((edges[:-1] + edges[1:]) / 2), count.tolist()
        told.append(dict(zip(_LOGITS, (*ends, *bars), strict=True)))
    return told


def _activations(lm: language.LM, found: Events, latent: int) -> Iterator[dict[str, Any]]:
    """The sequences of a feature, group by group."""
    for group in groups(found, latent):
        for place in group.places:
            shown = sequence(lm, found, latent, place)
            yield {
                "bin_min": group.low,
                "bin_max": group.high,
                "bin_contains": group.share,
                "tokens": shown.tokens,
                "values": shown.values,
                "qualifying_token_index": shown.peak,
            }
