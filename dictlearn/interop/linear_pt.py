"""Files (`.pt`, `.pth`) of one linear layer in and one out, as Goodfire and others publish them.

    f = ReLU(x encoder^T + b)      y = f decoder^T + b_dec

    encoder_linear.weight [F, D], decoder_linear.weight [D, F], and their biases    Goodfire
    encoder.weight [F, D], decoder.weight [D, F], and their biases                  qresearch, and others

Nothing is subtracted from the input. Files are written in Goodfire's form. Everything that it has no key for
is one more entry of the archive, which torch ignores.
"""

from pathlib import Path

import numpy as np

from dictlearn import dictionaries
from dictlearn.interop import _foreign, _note, _state, _torch_file, _torch_write
from dictlearn.runs.trained import Trained

SUFFIX = ".pt"
_LEAVES = {
    "encoder.weight": "params/W_enc_FD",
    "encoder.bias": "params/b_enc_F",
    "decoder.weight": "params/W_dec_FD",
    "decoder.bias": "params/b_dec_D",
}
LEAVES = set(_LEAVES.values())
_STRUCTURES = {"relu", "matryoshka"}
_ENDS = ("weight", "bias")
_STEMS = (("encoder_linear", "decoder_linear"), ("encoder", "decoder"))


def recognises(path: Path) -> bool:
    """Whether a path is a torch file with the tensors of two layers.

    Args:
        path: a file or a folder.

    Returns:
        True if it is.
    """
    return any(
        _state.holds(path, (f"{stem}.{one}" for stem in stems for one in _ENDS)) for stems in _STEMS
    )


def load(path: Path) -> Trained:
    """Loads the dictionary in the file.

    Args:
        path: the file.

    Returns:
        A Trained.

    Raises:
        ValueError: for a key or a tensor that cannot be read, naming it.
    """
    state = _state.read(path)
    names = {key: key for key in _LEAVES}
    if "encoder_linear.weight" in state.found:
        names = {key.replace(".", "_linear."): key for key in _LEAVES}
    n_latents, d_in = state.matrix(next(iter(names)))
    sizes = {"encoder.weight": (n_latents, d_in), "encoder.bias": (n_latents,)}
    sizes |= {"decoder.weight": (d_in, n_latents), "decoder.bias": (d_in,)}
    found = state.arrays({key: sizes[name] for key, name in names.items()})
    arrays = {_LEAVES[names[key]]: array for key, array in found.items()}
    arrays["params/W_dec_FD"] = np.ascontiguousarray(arrays["params/W_dec_FD"].T)
    fields = {"subtract_b_dec": False, "sparsity": 0.0}
    module = dictionaries.make("relu", d_in=d_in, n_latents=n_latents, **fields)
    return _note.noted(_torch_file.note(path), module, arrays, name=path.stem)


def save(trained: Trained, path: Path) -> None:
    """Writes a file.

    Args:
        trained: the dictionary.
        path: where to write.

    Raises:
        ValueError: for a dictionary that is not a ReLU of its input.
    """
    made = dictionaries.describe(trained.module)
    name, kind = made["name"], made.get("activation")
    if kind != "relu" or name not in _STRUCTURES:
        raise ValueError(f"two linear layers have only ReLU, not {name} with {kind}.")
    _foreign.check_raw(trained)
    if made["d_out"] is not None or made["subtract_b_dec"]:
        raise ValueError(
            f"two linear layers subtract nothing; this {name} subtracts b_dec or is a transcoder."
        )
    leaves = _foreign.leaves(trained)
    arrays = {
        key.replace(".", "_linear."): np.asarray(leaves[leaf], np.float32)
        for key, leaf in _LEAVES.items()
    }
    arrays["decoder_linear.weight"] = arrays["decoder_linear.weight"].T
    _torch_write.write(path, arrays, _note.note(trained))
