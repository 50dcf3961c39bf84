"""Folders for PyTorch users: `weights.safetensors` in our own layout, and `model.py`, which runs it where
dictlearn is not installed.

    import model
    sae = model.load("weights.safetensors")
    f = sae.encode(x)

model.py needs only torch. It computes one linear encoder, an activation and one linear decoder.
"""

from pathlib import Path

from dictlearn import dictionaries
from dictlearn.interop import _foreign, _note, _tensors
from dictlearn.runs.trained import Trained

SUFFIX = ""
WEIGHTS, MODEL = "weights.safetensors", "model.py"
_ACTIVATIONS = {
    *("relu", "p_anneal", "topk", "abs_topk", "jumprelu"),
    *("batch_topk", "mutual_choice", "feature_choice"),
}
_STRUCTURES = {*_ACTIVATIONS, "matryoshka"}
"""Structures whose inference is that of the linear dictionary with their activation."""
_LINEAR = ("W_enc_FD", "b_enc_F", "W_dec_FD", "b_dec_D", "W_skip_DD", "log_threshold_F")
_STATS = (
    *("threshold_mean", "threshold_weight", "threshold_F", "kept_F", "density_F", "density_weight"),
    *("step", "updates", "scale", "next_T", "now_T"),
)
LEAVES = {f"params/{leaf}" for leaf in _LINEAR} | {f"stats/{leaf}" for leaf in _STATS}


def recognises(path: Path) -> bool:
    """Whether a path is a folder with both files, whose weights have our header.

    Args:
        path: a file or a folder.

    Returns:
        True if it is.
    """
    return _foreign.has(path, WEIGHTS, MODEL) and _note.ours(path / WEIGHTS)


def load(path: Path) -> Trained:
    """Loads the dictionary in the folder; its model.py is neither read nor run.

    Args:
        path: the folder.

    Returns:
        A Trained.

    Raises:
        ValueError: for a tensor that is not in the header.
    """
    return _tensors.load(_foreign.inside(path, WEIGHTS))


def save(trained: Trained, path: Path) -> None:
    """Writes a folder.

    Args:
        trained: the dictionary.
        path: where to write.

    Raises:
        ValueError: for a dictionary that model.py does not compute.
    """
    made = dictionaries.describe(trained.module)
    name, activation = made["name"], made.get("activation")
    if activation not in _ACTIVATIONS or name not in _STRUCTURES:
        raise ValueError(f"model.py does not compute {name} with {activation}.")
    _foreign.check_raw(trained)
    path.mkdir()
    _tensors.save(trained, path / WEIGHTS)
    text = Path(__file__).with_name("_model.py").read_text("utf-8")
    (path / MODEL).write_text(text, "utf-8")
