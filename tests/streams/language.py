"""A random language model of a few thousand parameters in a file, and a text for it."""

import numpy as np

from dictlearn import lm as language
from tests.lm.toy import toy, write_gguf

TAPS = ("resid.0", "mlp_out.1")
SIZES = {"sequence_length": 16, "shard_rows": 300, "lm_batch": 4, "held_out": 0.2}


def write_lm(folder):
    """The path of a model of three layers that reads bytes."""
    return write_gguf(folder / "toy.gguf", *toy())


def load(path) -> language.LM:
    return language.load("toy", path=path)


def write_text(path):
    """80 documents of 5 to 39 random letters, in a .txt file; gives its path."""
    random = np.random.default_rng(0)
    lengths = random.integers(5, 40, size=80)
    letters = [random.choice(list("abcdefghijklmnopqrstuvwxyz"), size=n) for n in lengths]
    path.write_text("\n\n".join(map("".join, letters)))
    return path
