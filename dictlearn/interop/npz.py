"""NumPy archives: W_enc [D, F], b_enc [F], W_dec [F, D], b_dec [D], and threshold where there is one.

The normalisation is folded in, so the arrays read and write raw activations. An autoencoder's encoder reads
`x - b_dec`, a transcoder's `x`; which it is stands in `index.json`.
"""

from pathlib import Path

import numpy as np

from dictlearn import normalise
from dictlearn.trained import Trained

SUFFIX = ".npz"


def arrays(dictionary: Trained) -> dict[str, np.ndarray]:
    """The folded arrays. Raises ValueError for a normalisation that cannot be folded."""
    params = dictionary.variables["params"]
    threshold = None
    if hasattr(dictionary.module, "threshold"):
        threshold = np.asarray(dictionary.module.apply(dictionary.variables, method="threshold"))
    W_enc_FD, b_enc_F, W_dec_FD, b_dec_D = (
        np.asarray(params[name]) for name in ("W_enc_FD", "b_enc_F", "W_dec_FD", "b_dec_D")
    )
    folded = normalise.fold(dictionary.norm, W_enc_FD.T, b_enc_F, W_dec_FD, b_dec_D, threshold)
    names = ("W_enc", "b_enc", "W_dec", "b_dec", "threshold")
    found = zip(names, folded, strict=True)
    return {name: np.asarray(value, np.float32) for name, value in found if value is not None}


def save(dictionary: Trained, path: Path) -> None:
    """Writes the archive whole or not at all."""
    half = path.with_name(path.name + ".tmp")
    with half.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays(dictionary))
    half.replace(path)
