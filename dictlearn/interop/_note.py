"""The note: everything about a dictionary that another library's format has no key for.

Such a file states the dictionary's function, but not how it was trained. The note holds the rest, as JSON,
under a key that the other library ignores. With it, a dictionary that was written here is restored exactly.
Without it, `load` returns the dictionary that the file describes.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from dictlearn import dictionaries
from dictlearn.experiment import values
from dictlearn.interop import _layout
from dictlearn.runs.trained import Site, Trained
from dictlearn.types import Dictionary

NOTE = "dictlearn"
METADATA = "note"
"""The key of the note in the metadata of a safetensors file; `NOTE` is the key of our own layout."""
THRESHOLD = "params/log_threshold_F"
RUNNING = ("stats/threshold_mean", "stats/threshold_weight")
"""The leaves of BatchTopK's threshold. A file has the threshold itself, and the note these leaves."""
_AS_IT_IS = {NOTE, "dtype", "device", "sae_lens_version"}
"""Keys of a config that say nothing about the dictionary."""


def ours(path: Path) -> bool:
    """Whether a safetensors file is in our own layout."""
    return NOTE in _metadata(path)


def note_of(path: Path) -> Any:
    """The note in the metadata of a safetensors file; None if it has none."""
    told = _metadata(path).get(METADATA)
    return told and json.loads(told)


def _metadata(path: Path) -> Mapping[str, str]:
    try:
        with safe_open(path, "np") as file:
            return file.metadata() or {}
    except SafetensorError:
        return {}


def note(trained: Trained) -> dict[str, Any]:
    """All of a dictionary except its arrays, as JSON; the arrays of RUNNING are included, exactly."""
    flat = _layout.flat(trained.variables)
    return {
        "name": trained.name,
        "dictionary": values.to_json(dictionaries.describe(trained.module), "dictionary"),
        "sites": [site._asdict() for site in trained.sites],
        "hparams": values.to_json(trained.hparams, "hparams"),
        "metrics": trained.metrics,
        "leaves": {leaf: np.asarray(flat[leaf]).item() for leaf in RUNNING if leaf in flat},
    }


def noted(
    told: Any, described: Dictionary, arrays: Mapping[str, np.ndarray], **known: Any
) -> Trained:
    """The dictionary of these leaves, from the note if there is one, otherwise as `described`. Entries of the
    note replace those in `known`.

    Raises ValueError for a note that describes another function than the file.
    """
    if told is None:
        _layout.abstract(described)  # fields that do not fit are refused here
        return Trained(described, _layout.nested(arrays), **known)
    try:
        module = dictionaries.make(**values.from_json(told["dictionary"]))
        wanted = _layout.abstract(module)
        kept = {k: np.asarray(v, wanted[k].dtype) for k, v in told["leaves"].items()}
        about = {"sites": tuple(map(Site.of, told["sites"])), "name": str(told["name"])}
        about |= {"hparams": values.from_json(told["hparams"]), "metrics": told["metrics"]}
    except Exception as error:
        raise ValueError(f"its note of {NOTE} describes no dictionary: {error}") from error
    whole = kept | {leaf: array for leaf, array in arrays.items() if leaf != THRESHOLD or not kept}
    shapes = {leaf: (np.shape(array), np.asarray(array).dtype) for leaf, array in whole.items()}
    found = Trained(module, _layout.nested(whole), **known | about)
    if shapes != {leaf: (leaf_.shape, leaf_.dtype) for leaf, leaf_ in wanted.items()} or (
        kept and not _same_threshold(found, arrays[THRESHOLD])
    ):
        raise ValueError(f"its note of {NOTE} describes another dictionary than its arrays.")
    return found


def of_config(
    told: Mapping[str, Any],
    file: str,
    written: Callable[[Trained], Mapping[str, Any]],
    described: Dictionary,
    arrays: Mapping[str, np.ndarray],
    **known: Any,
) -> Trained:
    """The same, from the note in a config. The config must still equal what is `written` for the dictionary.
    file: the name of the config."""
    found = noted(told.get(NOTE), described, arrays, **known)
    if NOTE in told:
        _check_config(told, written(found), file)
    return found


def _check_config(told: Mapping[str, Any], ours: Mapping[str, Any], name: str) -> None:
    """Raises ValueError if a config was edited after it was written with the note."""
    written = json.loads(json.dumps(ours))
    for key, value in written.items():
        if isinstance(value, dict):
            _check_config(told.get(key) or {}, value, name)
        elif key not in _AS_IT_IS and told.get(key) != value:
            raise ValueError(
                f"{name} says {key}={told.get(key)!r}, and its note of {NOTE} was written with {value!r}: put "
                f"that value back, or delete {NOTE} from {name} to read the file without the note."
            )


def _same_threshold(trained: Trained, log_threshold_F: np.ndarray) -> bool:
    """Whether the running means give the thresholds of the file."""
    ours = np.asarray(trained.module.apply(trained.variables, method="threshold"))
    return np.allclose(ours, np.exp(log_threshold_F), rtol=1e-5, atol=1e-30)
