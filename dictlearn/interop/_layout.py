"""The complete layout of a trained dictionary: every leaf by its path, and a header.

    params/W_enc_FD ...    the leaves of the variables
    norm/scale_in ...      the arrays of the normalisation
    header                 JSON: the variant and its fields, the normalisation, name, hyperparameters, metrics

A dictionary with one linear encoder and one linear decoder on raw activations has, for other programs, these
arrays in place of its leaves:

    W_enc [D, F]    b_enc [F]    W_dec [F, D']    b_dec [D']    W_skip [D, D'] where there is a skip

If a threshold decides which latents fire, there is also the array `threshold`, besides the leaf that defines
it. `encoder_input` of the header says whether the encoder reads `x - b_dec` or `x`.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dictlearn import dictionaries, normalise
from dictlearn.experiment import values
from dictlearn.experiment.programs import set_up
from dictlearn.runs.trained import Site, Trained
from dictlearn.types import Dictionary

VERSION = 1
TRANSPOSED = {"W_enc": "params/W_enc_FD", "W_skip": "params/W_skip_DD"}
SIMPLE = {"b_enc": "params/b_enc_F", "W_dec": "params/W_dec_FD", "b_dec": "params/b_dec_D"}
OPTIONAL = {"params/W_skip_DD", "params/log_threshold_F"}
KEYS = {
    "version",
    "name",
    "dictionary",
    "normalisation",
    "encoder_input",
    "sites",
    "hparams",
    "metrics",
}


def pack(trained: Trained) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """(header, arrays) of a dictionary. Raises ValueError, naming it, for what the layout cannot hold."""
    leaves = {name: np.asarray(leaf) for name, leaf in flat(trained.variables).items()}
    for name, leaf in leaves.items():
        if leaf.dtype.kind not in "biuf":
            raise ValueError(
                f"{trained.name}: {name} is {leaf.dtype}, which this format cannot hold; cast it to float32."
            )
    arrays = dict(leaves)
    if trained.norm.kind == "none" and _is_simple(leaves):
        for name, leaf in _simple(leaves).items():
            del arrays[leaf]
            arrays[name] = leaves[leaf].T if name in TRANSPOSED else leaves[leaf]
        threshold = trained.module.apply(trained.variables, method="threshold")
        if threshold is not None:
            arrays["threshold"] = np.asarray(threshold, np.float32)
    arrays |= {
        f"norm/{name}": np.asarray(leaf) for name, leaf in normalise.arrays(trained.norm).items()
    }
    header = {
        "version": VERSION,
        "name": trained.name,
        "dictionary": _described(trained.module),
        "normalisation": trained.norm.kind,
        "encoder_input": encoder_input(trained.module),
        "sites": [site._asdict() for site in trained.sites],
        "hparams": values.to_json(trained.hparams, "hparams"),
        "metrics": trained.metrics,
    }
    return header, arrays


def unpack(header: Any, shapes: Mapping[str, tuple], read: Callable[[str], np.ndarray]) -> Trained:
    """The dictionary of a header and its arrays; their shapes and dtypes are checked before `read` reads them.

    Raises ValueError for a header or an array that `pack` would not make.
    """
    if not isinstance(header, dict) or header.keys() != KEYS:
        there = ", ".join(sorted(header)) if isinstance(header, dict) else repr(header)
        raise ValueError(f"the header holds {there}; it must hold {', '.join(sorted(KEYS))}.")
    if header["version"] != VERSION:
        raise ValueError(f"the layout has version {header['version']!r}; this reads {VERSION}.")
    try:
        module, kind = _built(header["dictionary"]), header["normalisation"]
        normalise.check_kind(kind)
        sites = tuple(map(Site.of, header["sites"]))
        wanted = abstract(module) | _abstract_norm(kind, module, shapes)
    except Exception as error:
        raise ValueError(f"the header describes no dictionary: {error}") from error
    if header["name"] != Path(str(header["name"])).name:
        raise ValueError(f"the name {header['name']!r} is not a plain file name.")
    names = {leaf: leaf for leaf in wanted}
    if kind == "none" and _is_simple(wanted):
        names |= {leaf: name for name, leaf in _simple(wanted).items()}
    _check(wanted, names, shapes)
    found = {leaf: _finite(read(name), name) for leaf, name in names.items()}
    turned = {leaf: a.T if _turns(leaf, names[leaf]) else a for leaf, a in found.items()}
    variables = nested(turned)
    norm = normalise.Norm(kind, **variables.pop("norm"))
    told = {"name": header["name"], "metrics": header["metrics"]}
    told["hparams"] = values.from_json(header["hparams"])
    return Trained(module, variables, norm, sites, **told)


def flat(variables: Mapping[str, Any]) -> dict[str, Any]:
    """The leaves of variables by their paths, as "params/W_enc_FD"."""
    found = jax.tree_util.tree_leaves_with_path(dict(variables))
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in found}


def nested(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """The variables from leaves by their paths, the inverse of `flat`."""
    found: dict[str, Any] = {}
    for leaf, array in leaves.items():
        room, _, last = leaf.partition("/")
        found.setdefault(room, {})[last] = jnp.asarray(array)
    return found


def encoder_input(module: Dictionary) -> str:
    """The input of the encoder, as text."""
    return "x - b_dec" if module.d_out is None and module.subtract_b_dec else "x"


def _is_simple(leaves: Mapping[str, Any]) -> bool:
    """Whether the leaves form one linear encoder and one linear decoder."""
    params = {name for name in leaves if name.startswith("params/")}
    return params - OPTIONAL == {TRANSPOSED["W_enc"], *SIMPLE.values()}


def _simple(leaves: Mapping[str, Any]) -> dict[str, str]:
    return {name: leaf for name, leaf in (TRANSPOSED | SIMPLE).items() if leaf in leaves}


def _described(module: Dictionary) -> dict[str, Any]:
    """A variant as JSON: its name and its fields."""
    return values.to_json(dictionaries.describe(module), "dictionary")


def _built(described: Any) -> Dictionary:
    """The variant from the JSON of `_described`."""
    return dictionaries.make(**values.from_json(described))


def abstract(module: Dictionary) -> dict[str, jax.ShapeDtypeStruct]:
    """The leaves of a variant's variables."""
    return flat(set_up(module))


def _abstract_norm(kind: str, module: Dictionary, shapes: Mapping[str, tuple]) -> dict:
    """The arrays of a normalisation; there may be a scale for each of several sources, if they divide the
    columns.
    """
    d_in, wanted = module.d_in, {f"norm/scale_{of}": () for of in ("in", "out", "gradient")}
    for name, width in (("norm/scale_in", d_in), ("norm/scale_out", module.d_out or d_in)):
        shape = shapes.get(name, [()])[0]
        wanted[name] = shape if len(shape) == 1 and shape[0] and width % shape[0] == 0 else ()
    if kind in normalise.AFFINE_KINDS:
        wanted |= {"norm/mean_D": (d_in,), "norm/matrix_DD": (d_in, d_in)}
    return {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in wanted.items()}


def _check(wanted: Mapping, names: Mapping[str, str], shapes: Mapping[str, tuple]) -> None:
    """Raises ValueError for an array that is missing, unknown, or of another shape or dtype."""
    derived = {"threshold"} if "W_enc" in names.values() else set()
    if missing := sorted(set(names.values()) - shapes.keys()):
        raise ValueError(f"it lacks {', '.join(missing)}; it holds {', '.join(sorted(shapes))}.")
    if unknown := sorted(shapes.keys() - set(names.values()) - derived):
        raise ValueError(
            f"it holds {', '.join(unknown)}, which the dictionary does not have; "
            f"it has {', '.join(sorted(names.values()))}."
        )
    for leaf, name in names.items():
        shape = wanted[leaf].shape[:: -1 if _turns(leaf, name) else 1]
        if shapes[name] != (shape, wanted[leaf].dtype):
            there = f"{shapes[name][1]}{list(shapes[name][0])}"
            raise ValueError(f"{name} is {there}, not {wanted[leaf].dtype}{list(shape)}.")


def _finite(array: np.ndarray, name: str) -> np.ndarray:
    """The array. Raises ValueError for numbers that are not finite."""
    if array.dtype.kind not in "biu" and not np.isfinite(array).all():
        raise ValueError(
            f"{name} has numbers that are not finite: its run diverged, or it is damaged."
        )
    return array


def _turns(leaf: str, name: str) -> bool:
    """Whether an array is the transpose of its leaf."""
    return name != leaf and name in TRANSPOSED
