"""Dictionary learning on neural-network activations, in JAX, at any scale."""

from dictlearn import dictionaries, lm, meters, objectives, rules, streams
from dictlearn.learners.gradient import gradient
from dictlearn.ops.firing import dense
from dictlearn.runs.trained import Trained, restore
from dictlearn.sweep import sweep
from dictlearn.types import Batch, Codes, Firing, Learner, Meter, Out

__version__ = "0.1.0"

__all__ = [
    "Batch",
    "Codes",
    "Firing",
    "Learner",
    "Meter",
    "Out",
    "Trained",
    "dense",
    "dictionaries",
    "gradient",
    "lm",
    "meters",
    "objectives",
    "restore",
    "rules",
    "streams",
    "sweep",
]
