"""Llamascopium's cross-layer transcoders: a folder of `config.json` and `sae_weights.safetensors`.

    z^l = (s_l x^l) W_E_l + b_E_l    f = z [g(z |d|)]    y^l = (sum_{m <= l} f^m W_D.l[m] + b_D.l) / s'_l

W_E is [L, D, F], F counting the latents of one layer, and b_E [L, F]. `W_D.l` [l + 1, F, D] has the decoders of
target layer l from the layers 0 to l, and `b_D.l` [D] its bias. g is ReLU, JumpReLU with the exponential of
log_jumprelu_threshold [L, F], or layertopk, which keeps the top_k of the latents of all layers after a ReLU. It
is applied to z |d| with `sparsity_include_decoder_norm`, |d| being the norm over all targets, and to z without.
s_l and s'_l are sqrt(D) over the norms in `dataset_average_activation_norm.HOOK` (dataset-wise), or 1
(inference).

Refused are topk, which keeps the top_k of every layer, and batchtopk and batchlayertopk, which depend on the
whole batch; ours of BatchTopK is written as a JumpReLU. Latent j of layer l is latent j L + l of ours.
Everything that the library has no key for is kept under `dictlearn` in config.json.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from dictlearn import dictionaries
from dictlearn.dictionaries.clt import CLT
from dictlearn.interop import _clt, _foreign, _hooks, _llamascopium, _note
from dictlearn.interop._llamascopium import CONFIG, LOG, RANKS, WEIGHTS
from dictlearn.runs.trained import Site, Trained

SUFFIX = ""
LEAVES = _clt.LEAVES
_READ = ("relu", "jumprelu", "layertopk")
_KINDS = {"relu": "relu", "jumprelu": "jumprelu", "topk": "layertopk", "batch_topk": "jumprelu"}
_SIDES = "hook_points_in", "hook_points_out"


def recognises(path: Path) -> bool:
    """Whether a path is a folder of a cross-layer transcoder of Llamascopium.

    Args:
        path: a file or a folder.

    Returns:
        True if it is.
    """
    return _llamascopium.kind(path) == _llamascopium.CLT


def _norms(W_FLD: np.ndarray) -> np.ndarray:
    return np.maximum(np.linalg.norm(W_FLD.astype(np.float64), axis=(1, 2)), 1e-37)


def load(path: Path) -> Trained:
    """Loads the dictionary in the folder.

    Args:
        path: the folder.

    Returns:
        A Trained.

    Raises:
        ValueError: for a key or a tensor that cannot be read, naming it.
    """
    told = _foreign.config(path, CONFIG)
    act_fn = _foreign.one_of(told, "act_fn", _READ, "relu")
    ranks = _foreign.one_of(told, RANKS, (True, False), True)
    width = _foreign.integer(told, "d_model")
    layers, averages = _layers(path, act_fn, width)
    sides = [_llamascopium.hooks(told, key, len(layers)) for key in _SIDES]
    for one in layers if ranks else ():
        if "threshold" in one:
            one["threshold"] /= _norms(one["W_dec"])
    fields: dict[str, Any] = {}
    if act_fn == "layertopk":
        k = _foreign.integer(told, "top_k")
        fields = {"activation": "topk", "k": k, "norm_weighted": ranks}
    module, leaves = _clt.joined(layers, **fields)
    read, written = (tuple(map(_hooks.tap, side)) for side in sides)
    norm = _llamascopium.norm(told, sides, averages, width)
    known = {"name": path.name, "sites": (Site({}, read, written, {}),), "norm": norm}
    return _note.of_config(told, CONFIG, _written, module, leaves, **known)


def save(trained: Trained, path: Path) -> None:
    """Writes a folder.

    Args:
        trained: the dictionary.
        path: where to write.

    Raises:
        ValueError: for a dictionary that is not a cross-layer transcoder, or that Llamascopium cannot hold.
    """
    told, layers = _written(trained), _clt.parted(trained)
    arrays = {
        "W_E": np.stack([one["W_enc"].T for one in layers]),
        "b_E": np.stack([one["b_enc"] for one in layers]),
    }
    for target, one in enumerate(layers):
        arrays[f"b_D.{target}"] = one["b_dec"]
        each = [layers[m]["W_dec"][:, target - m] for m in range(target + 1)]
        arrays[f"W_D.{target}"] = np.stack(each)
    if told["act_fn"] == "jumprelu":
        arrays[LOG] = _foreign.log_threshold(np.stack([one["threshold"] for one in layers]))
    if told["norm_activation"] == _llamascopium.WISE:
        sides = [told[key] for key in _SIDES]
        arrays |= _llamascopium.normed(trained, sides, told["d_model"])
    told = {**told, _note.NOTE: _note.note(trained)}
    _foreign.write(path, WEIGHTS, arrays, CONFIG, told)


def _layers(
    path: Path, act_fn: str, width: int
) -> tuple[list[dict[str, np.ndarray]], dict[str, float]]:
    """(the arrays of each layer, by their names in `_clt.joined`; the averages of norms by hook)."""
    n, _, each = _llamascopium.shape(path, "W_E", 3)
    if n > _clt.MOST_LAYERS:
        raise ValueError(
            f"W_E of {WEIGHTS} has {n} layers, and at most {_clt.MOST_LAYERS} are read."
        )
    wanted: dict[str, tuple[int, ...]] = {"W_E": (n, width, each), "b_E": (n, each)}
    wanted |= {f"W_D.{i}": (i + 1, each, width) for i in range(n)}
    wanted |= {f"b_D.{i}": (width,) for i in range(n)}
    wanted |= {LOG: (n, each)} if act_fn == "jumprelu" else {}
    found, averages = _llamascopium.arrays(path, wanted)
    layers = []
    for i in range(n):
        one = {"W_enc": np.ascontiguousarray(found["W_E"][i].T), "b_enc": found["b_E"][i]}
        one |= {"b_dec": found[f"b_D.{i}"]}
        one["W_dec"] = np.stack([found[f"W_D.{j}"][i] for j in range(i, n)], axis=1)
        if act_fn == "jumprelu":
            one["threshold"] = np.exp(found[LOG][i].astype(np.float64))
        layers.append(one)
    return layers, averages


def _written(trained: Trained) -> dict[str, Any]:
    """config.json, as the library writes it."""
    made = dictionaries.describe(trained.module)
    act_fn, n = _llamascopium.check(made, ("clt",), _KINDS), cast(CLT, trained.module).sources
    told: Mapping[str, Any] = {
        "act_fn": act_fn,
        "norm_activation": _llamascopium.of_norm(trained),
        RANKS: bool(act_fn == "layertopk" and made["norm_weighted"]),
        "top_k": int(made.get("k", 50)),
        **dict(
            zip(_SIDES, _llamascopium.places(trained, n, made["d_out"] is not None), strict=True)
        ),
    }
    return _llamascopium.config(
        _llamascopium.CLT, made["d_in"] // n, made["n_latents"] // n, **told
    )
