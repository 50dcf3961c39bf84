"""NumPy archives: W_enc [D, F], b_enc [F], W_dec [F, D], b_dec [D], and threshold where there is one; of an
ITDA its atoms W_dec [n, D] and their keys, sequence [n] and position [n], alone.

The normalisation is folded in, so the arrays read and write raw activations. An autoencoder's encoder reads
`x - b_dec`, a transcoder's `x`; which it is stands in `index.json`.
"""

from pathlib import Path

import numpy as np

from dictlearn.runs.trained import Trained

SUFFIX = ".npz"


def arrays(dictionary: Trained) -> dict[str, np.ndarray]:
    """The folded arrays. Raises ValueError for a normalisation that cannot be folded, and for a
    variant that has not exactly these parameters."""
    folded = dictionary.folded()
    params, stats = folded.variables["params"], folded.variables.get("stats", {})
    if "sequence_F" in stats:
        n = int(stats["n_atoms"])
        atoms = {"W_dec": np.asarray(params["W_dec_FD"], np.float32)[:n]}
        where = {"sequence": stats["sequence_F"], "position": stats["position_F"]}
        return atoms | {name: np.asarray(value)[:n] for name, value in where.items()}
    names = {"W_enc": "W_enc_FD", "b_enc": "b_enc_F", "W_dec": "W_dec_FD", "b_dec": "b_dec_D"}
    if not set(names.values()) <= set(params):
        raise ValueError(
            f"{dictionary.name} has the parameters {', '.join(params)}; an archive holds "
            f"{', '.join(names.values())}. `dictlearn.restore` reads every variant."
        )
    found = {name: params[leaf] for name, leaf in names.items()}
    found["W_enc"] = found["W_enc"].T
    threshold = folded.module.apply(folded.variables, method="threshold")
    found |= {} if threshold is None else {"threshold": threshold}
    return {name: np.asarray(value, np.float32) for name, value in found.items()}


def save(dictionary: Trained, path: Path) -> None:
    """Writes the archive whole or not at all."""
    half = path.with_name(path.name + ".tmp")
    with half.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays(dictionary))
    half.replace(path)
