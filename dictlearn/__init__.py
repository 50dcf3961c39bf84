"""Dictionary learning on neural-network activations, in JAX, at any scale."""

from dictlearn import dictionaries, interop, lm, meters, objectives, rules, streams
from dictlearn.learners.ema import ema
from dictlearn.learners.gradient import gradient
from dictlearn.learners.skip_nonfinite import skip_nonfinite
from dictlearn.ops.firing import dense
from dictlearn.runs.trained import Site, Trained, restore
from dictlearn.sweep import sweep
from dictlearn.types import Batch, Codes, Dictionary, Firing, Learner, Meter, Out

__version__ = "0.1.0"

__all__ = [
    "Batch",
    "Codes",
    "Dictionary",
    "Firing",
    "Learner",
    "Meter",
    "Out",
    "Site",
    "Trained",
    "dense",
    "dictionaries",
    "ema",
    "gradient",
    "interop",
    "lm",
    "meters",
    "objectives",
    "restore",
    "rules",
    "skip_nonfinite",
    "streams",
    "sweep",
]
