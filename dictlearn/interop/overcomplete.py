"""overcomplete's state dicts (`.pt`, `.pth`) of TopK, JumpReLU and ReLU SAEs on a linear encoder.

    f = g(relu(x W^T + b))      y = f D      D = e^multiplier `_weights`

W is `encoder.final_block.0.weight`, or `encoder.weight` after `untied()`, and D is [F, D]. Nothing is
subtracted and nothing added, so our b_dec is 0. `thresholds` holds logarithms and makes it a JumpReLU. A
relaxed archetypal SAE has the atoms W C + Relax, of the arrays of `dictionary`.

Two things are not in what its `state_dict` gives. k: add it, `{**sae.state_dict(), "top_k": sae.top_k}`, with
None for an SAE without one. The normalisation of the atoms, which `sae.eval()` applies: atoms are read that one
of its normalisations leaves as they are. Ours are written as they are, for a library that is told
`dictionary_params={"normalization": "identity"}`; BatchTopK is written as a JumpReLU with its threshold.
Everything that the library has no key for is kept as an entry of the archive, which torch ignores.
"""

from pathlib import Path
from typing import Any

import numpy as np

from dictlearn import dictionaries
from dictlearn.interop import _foreign, _note, _state, _torch_file, _torch_write
from dictlearn.runs.trained import Trained

SUFFIX = ".pt"
_WEIGHTS, _SCALE, _THRESHOLDS = "dictionary._weights", "dictionary.multiplier", "thresholds"
_ENCODER, _BIAS = "encoder.final_block.0.weight", "encoder.final_block.0.bias"
_UNTIED = {"encoder.weight": _ENCODER, "encoder.bias": _BIAS}
_ARCHETYPAL = ("dictionary.W", "dictionary.C", "dictionary.Relax")
_NEAR = 1e-5
LEAVES = {
    *("params/W_enc_FD", "params/b_enc_F", "params/W_dec_FD", "params/b_dec_D"),
    *(_note.THRESHOLD, *_note.RUNNING),
}
_KINDS = {"relu", "topk", "jumprelu", "batch_topk"}
_STRUCTURES = {*_KINDS, "matryoshka"}


def recognises(path: Path) -> bool:
    """Whether a path is a torch file with the tensors of an encoder and a dictionary.

    Args:
        path: a file or a folder.

    Returns:
        True if it is.
    """
    atoms = _state.holds(path, (_WEIGHTS,)) or _state.holds(path, _ARCHETYPAL)
    encodes = any(_state.holds(path, (key,)) for key in (_ENCODER, "encoder.weight"))
    return atoms and encodes and _state.holds(path, (_SCALE,))


def load(path: Path) -> Trained:
    """Loads the dictionary in the file.

    Args:
        path: the file.

    Returns:
        A Trained.

    Raises:
        ValueError: for a key or a tensor that cannot be read, naming it, and for what the file does not say.
    """
    state, note = _state.read(path), _torch_file.note(path)
    kind, fields = _kind(state, note is not None)
    arrays = _arrays(state)
    if note is None:
        _check_normalised(arrays)
    leaves = _leaves(arrays, path)
    n_latents, d_in = leaves["params/W_dec_FD"].shape
    fields |= {"subtract_b_dec": False, "d_in": d_in, "n_latents": n_latents}
    return _note.noted(note, dictionaries.make(kind, **fields), leaves, name=path.stem)


def save(trained: Trained, path: Path) -> None:
    """Writes a file.

    Args:
        trained: the dictionary.
        path: where to write.

    Raises:
        ValueError: for a dictionary that overcomplete does not compute.
    """
    leaves = _foreign.leaves(trained)
    _check(trained, leaves)
    arrays = {
        _ENCODER: leaves["params/W_enc_FD"],
        _BIAS: leaves["params/b_enc_F"],
        _WEIGHTS: leaves["params/W_dec_FD"],
        _SCALE: 0.0,
    }
    threshold_F = _foreign.thresholds(trained)
    if threshold_F is not None:
        arrays[_THRESHOLDS] = _foreign.log_threshold(threshold_F)
    whole = {key: np.asarray(array, np.float32) for key, array in arrays.items()}
    _torch_write.write(path, whole, _note.note(trained))


def _check(trained: Trained, leaves: dict[str, Any]) -> None:
    """Raises ValueError for a dictionary that the library does not compute."""
    made = dictionaries.describe(trained.module)
    name, kind = made["name"], made.get("activation")
    if kind not in _KINDS or name not in _STRUCTURES:
        raise ValueError(f"overcomplete has no SAE for {name} with {kind}.")
    _foreign.check_raw(trained)
    _foreign.check_plain(made, "overcomplete")
    if made["d_out"] is not None:
        raise ValueError(f"overcomplete has autoencoders alone; this {name} is a transcoder.")
    if np.any(np.asarray(leaves["params/b_dec_D"])):
        raise ValueError(
            f"overcomplete adds nothing to f D; this {name} has a b_dec that is not 0."
        )


def _leaves(arrays: dict[str, np.ndarray], path: Path) -> dict[str, np.ndarray]:
    """The leaves of the arrays."""
    with np.errstate(over="ignore"):
        atoms_FD = arrays["atoms"] * np.exp(arrays[_SCALE])
    _foreign.finite({f"{_SCALE} times the atoms": atoms_FD}, path.name)
    n_latents, d_in = atoms_FD.shape
    leaves = {
        "params/W_enc_FD": arrays[_ENCODER],
        "params/b_enc_F": arrays.get(_BIAS, np.zeros(n_latents, np.float32)),
        "params/W_dec_FD": atoms_FD,
        "params/b_dec_D": np.zeros(d_in, np.float32),
    }
    if _THRESHOLDS in arrays:
        leaves[_note.THRESHOLD] = arrays[_THRESHOLDS]
    return leaves


def _kind(state: _state.State, noted: bool) -> tuple[str, dict[str, Any]]:
    """The activation and its fields; a file with a note needs no top_k, because the note has it."""
    told = "top_k" in state.found
    k = state.take("top_k") if told else None
    if _THRESHOLDS in state.found:
        return "jumprelu", {"sparsity": 0.0}
    if not told and not noted:
        raise ValueError(
            "it does not say top_k, which overcomplete's state_dict leaves out: save it with "
            'torch.save({**sae.state_dict(), "top_k": sae.top_k}, path), with None for an SAE without one.'
        )
    if k is None:
        return "relu", {"sparsity": 0.0}
    return "topk", {"k": _foreign.integer({"top_k": k}, "top_k")}


def _arrays(state: _state.State) -> dict[str, np.ndarray]:
    """The arrays by the names of the linear encoder, and `atoms`."""
    names = {key: key for key in (_ENCODER, _BIAS)}
    if "encoder.weight" in state.found:
        names = {name: key for key, name in _UNTIED.items() if key in state.found}
    n_latents, d_in = state.matrix(names[_ENCODER])
    sizes = {names[_ENCODER]: (n_latents, d_in), _SCALE: ()}
    sizes |= {names[_BIAS]: (n_latents,)} if _BIAS in names else {}
    sizes |= {_THRESHOLDS: (n_latents,)} if _THRESHOLDS in state.found else {}
    if _WEIGHTS in state.found:
        found = state.arrays(sizes | {_WEIGHTS: (n_latents, d_in)})
        atoms_FD = found[_WEIGHTS]
    else:
        points = state.matrix("dictionary.C")[0]
        shapes = ((n_latents, points), (points, d_in), (n_latents, d_in))
        found = state.arrays(sizes | dict(zip(_ARCHETYPAL, shapes, strict=True)))
        w, c, relax = (found[key] for key in _ARCHETYPAL)
        atoms_FD = w @ c + relax
    return found | {name: found[key] for name, key in names.items()} | {"atoms": atoms_FD}


def _check_normalised(arrays: dict[str, np.ndarray]) -> None:
    """Raises ValueError for weights that the library would normalise before it uses them."""
    if _WEIGHTS in arrays:
        rows = arrays[_WEIGHTS]
        of = [np.linalg.norm(rows, axis=1), np.abs(rows).sum(axis=1)]
        settled = [np.abs(norm_F - 1).max() < _NEAR for norm_F in of]
        settled += [abs(norm_F.max() - 1) < _NEAR for norm_F in of]
        what = f"{_WEIGHTS} has rows of lengths {of[0].min():.3g} to {of[0].max():.3g}"
    else:
        w = arrays["dictionary.W"]
        settled = [w.min() >= 0 and np.abs(w.sum(axis=1) - 1).max() < _NEAR]
        what = "the rows of dictionary.W are no convex combinations"
    if not any(settled):
        raise ValueError(
            f"{what}, and the file does not say how overcomplete normalises them: call sae.eval(), which does, "
            "before state_dict(). Atoms that are not normalised cannot be told from those that have yet to be."
        )
