"""Text that is already tokenised: integer arrays in .npy, .npz and .safetensors files.

An array `[S, T]` is S sequences; an array `[N]` is one long sequence, which is cut. In a file of several
arrays the tokens are called `input_ids` or `tokens`; `attention_mask`, of the same shape, is False at
padding. Nothing is unpickled.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int
from safetensors import safe_open

from dictlearn import files

_NAMES = ("input_ids", "tokens")
_MASK = "attention_mask"


def read(
    path: Path, length: int, vocab: int, n_sequences: int | None = None
) -> tuple[Int[np.ndarray, "S T"], Bool[np.ndarray, "S T"]]:
    """Reads the first sequences of a file of tokens.

    Args:
        path: the file.
        length: the number of tokens T of a sequence.
        vocab: the number of tokens in the vocabulary.
        n_sequences: the number of sequences; None for all.

    Returns:
        (int32 tokens, True where a token is not padding). The last tokens of an array `[N]`, too few for a
        sequence, are dropped.

    Raises:
        ValueError: for anything but integers in 0..vocab - 1, sequences of another length, and padding on the
            left, which a causal model would attend to; the message names the file.
    """
    arrays = _arrays(path)
    name = next((one for one in _NAMES if one in arrays), None)
    if name is None:
        raise ValueError(f"{path}: holds {sorted(arrays)}, and none is {' or '.join(_NAMES)}.")
    tokens = arrays[name]
    kept = arrays.get(_MASK, np.ones(tokens.shape, bool))
    if tokens.dtype.kind not in "iu" or tokens.ndim not in (1, 2):
        raise ValueError(
            f"{path}: tokens are {tokens.dtype} of shape {tokens.shape}; wanted are integers [S, T]"
            " or [N]."
        )
    if kept.shape != tokens.shape or not np.isin(kept, (0, 1)).all():
        raise ValueError(f"{path}: {_MASK} is not of zeros and ones of shape {tokens.shape}.")
    if tokens.ndim == 1:
        whole = tokens.size // length * length
        tokens, kept = (array[:whole].reshape(-1, length) for array in (tokens, kept))
    if tokens.shape[1] != length:
        raise ValueError(
            f"{path}: sequences are {tokens.shape[1]} tokens long and {length=}; choose the same."
        )
    tokens, kept_ST = tokens[:n_sequences], np.asarray(kept[:n_sequences], bool)
    outside = (tokens < 0) | (tokens >= vocab)
    if outside.any():
        raise ValueError(
            f"{path}: token {tokens[outside][0]} is outside the tokenizer's 0..{vocab - 1}; the"
            " tokens were made by another tokenizer."
        )
    if (kept_ST[:, 1:] & ~kept_ST[:, :-1]).any():
        raise ValueError(f"{path}: {_MASK} has padding before tokens; pad on the right.")
    return np.asarray(tokens, np.int32), kept_ST


def _arrays(path: Path) -> Mapping[str, np.ndarray]:
    try:
        if path.suffix == ".npy":
            return {_NAMES[0]: np.load(path, mmap_mode="r", allow_pickle=False)}
        if path.suffix == ".npz":
            # np.load leaves a file open that is no archive.
            with path.open("rb") as opened, np.lib.npyio.NpzFile(opened) as file:
                return {name: file[name] for name in file.files if name in (*_NAMES, _MASK)}
        with safe_open(path, "numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys() if name in (*_NAMES, _MASK)}  # noqa: SIM118
    except files.DAMAGE as error:
        raise ValueError(f"{path}: cannot be read as {path.suffix[1:]}: {error}") from error
