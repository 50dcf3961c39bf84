from . import (
    analyses,
    circuits,
    dictionaries,
    interop,
    lm,
    meters,
    objectives,
    rules,
    scaling,
    streams,
)
from .experiment.recommended import recommended
from .interop import load, load_all
from .learners.ema import ema
from .learners.gradient import gradient
from .learners.itda import itda
from .learners.skip_nonfinite import skip_nonfinite
from .ops.firing import dense
from .runs.pursuit_encoder import with_pursuit_encoder
from .runs.to_jumprelu import to_jumprelu
from .runs.trained import Site, Trained, restore
from .sweep import sweep
from .types import Batch, Codes, Dictionary, Firing, Learner, Meter, Out

__version__: str

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
    "analyses",
    "circuits",
    "dense",
    "dictionaries",
    "ema",
    "gradient",
    "interop",
    "itda",
    "lm",
    "load",
    "load_all",
    "meters",
    "objectives",
    "recommended",
    "restore",
    "rules",
    "scaling",
    "skip_nonfinite",
    "streams",
    "sweep",
    "to_jumprelu",
    "with_pursuit_encoder",
]
