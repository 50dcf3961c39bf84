"""Features as circuit-tracer's viewer reads them, from an event cache: `index.json.gz`, `layer_L.bin`.

    index     {layer: {filename, offsets}}: feature i is the bytes offsets[i] to offsets[i + 1] of the file
    feature   4 bytes, little-endian, the length of what follows: JSON compressed by zlib
    JSON      transcoder_id, index, activation_frequency, the most raised and lowered tokens (top_logits,
              bottom_logits), the activations where it fires (act_min, act_max, histogram, and their
              percentiles 1 to 100 in quantile_values), and examples_quantiles: groups of whole sequences

Every latent has a feature. One that never fires has no examples, and zeros.

Source: decoderesearch/circuit-tracer at 4bb8c0e, `frontend/feature_models.py`, and `util.js`, which reads it.
"""

import gzip
import json
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dictlearn import files
from dictlearn import lm as language
from dictlearn.analyses import _logits
from dictlearn.analyses._feature_text import Group, groups, histogram, layer, sequence, short
from dictlearn.analyses._passages import readable
from dictlearn.events import Events
from dictlearn.runs.trained import Trained

BINS, LOGITS = 50, 10


def write(
    dictionary: Trained, lm: language.LM, found: Events, target: Sequence[str], folder: Path
) -> None:
    """Writes the features of a dictionary.

    Args:
        dictionary: the dictionary.
        lm: the model that it reads.
        found: every active code of the dictionary on a text.
        target: the taps that it writes, concatenated.
        folder: the folder of the files, replaced as a whole: the viewer's `features_dir`.
    """
    number = layer(target)
    offsets, name = [0], f"layer_{number}.bin"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with files.whole(folder) as half:
        half.mkdir()
        with open(half / name, "wb") as file:
            for feature in features(dictionary, lm, found, target):
                body = zlib.compress(json.dumps(feature).encode())
                offsets.append(offsets[-1] + file.write(struct.pack("<I", len(body)) + body))
        index = json.dumps({str(number): {"filename": name, "offsets": offsets}})
        (half / "index.json.gz").write_bytes(gzip.compress(index.encode(), mtime=0))


def features(
    dictionary: Trained, lm: language.LM, found: Events, target: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """The features of all latents."""
    logits = _ends(dictionary, lm, found.n_latents, target)
    for latent in range(found.n_latents):
        val_E = found.of(latent)[1]
        fires = len(val_E) > 0
        top, bottom = logits(latent)
        yield {
            "transcoder_id": dictionary.name,
            "index": latent,
            "examples_quantiles": _examples(lm, found, latent) if fires else [],
            "top_logits": top,
            "bottom_logits": bottom,
            "act_min": float(val_E.min()) if fires else 0.0,
            "act_max": float(val_E.max()) if fires else 0.0,
            "quantile_values": short(np.percentile(val_E, range(1, 101))) if fires else [],
            "histogram": histogram(val_E, BINS)[1] if fires else [],
            "activation_frequency": float(found.density_F[latent]),
        }


def _ends(
    dictionary: Trained, lm: language.LM, n_latents: int, target: Sequence[str]
) -> Callable[[int], tuple[list[str], list[str]]]:
    """Latent -> the tokens that it raises and lowers most; none where that is not known."""
    written_FD = _logits.of_latents(dictionary, lm, target, range(n_latents))
    if written_FD is None:
        return lambda latent: ([], [])
    found = _logits.direct(lm, written_FD, LOGITS)
    said = lambda tokens: [readable(lm.tokenizer, v) for v in tokens.tolist()]
    return lambda latent: (said(found.top_IK[latent]), said(found.bottom_IK[latent]))


def _examples(lm: language.LM, found: Events, latent: int) -> list[dict[str, Any]]:
    """The groups of sequences. An example that an earlier group has is marked as repeated."""
    told, spoken = [], set()
    for group in groups(found, latent):
        examples = []
        for place in group.places:
            shown = sequence(lm, found, latent, place)
            one = {"tokens": shown.tokens, "tokens_acts_list": shown.values}
            one |= {"train_token_ind": shown.peak, "is_repeated_datapoint": place in spoken}
            examples.append(one)
        spoken |= set(group.places)
        told.append({"quantile_name": _name(group), "examples": examples})
    return told


def _name(group: Group) -> str:
    if group.share < 0:
        return "Largest activations"
    return f"Interval {group.low:.3g} to {group.high:.3g}, {group.share:.2%} of all tokens"
