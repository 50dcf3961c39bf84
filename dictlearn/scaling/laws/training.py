"""L(n, T), of latents and tokens of training at one k: what width lacks, what training lacks, and a floor.

Compute is proportional to n T. Along a line of equal compute the loss is lowest where both powers fall equally
fast, so the best n is a power of the compute, and the best T another; the two exponents sum to 1.

Source: Hoffmann et al. 2022, "Training compute-optimal large language models", section 3.3 (approach 3);
Templeton et al. 2024, "Scaling monosemanticity", for the optimal width and steps as powers of compute.
"""

from dataclasses import replace

import numpy as np

from dictlearn.scaling.isoflop import isoflop
from dictlearn.scaling.law import Inputs, Law, one, without


def _minus_log_n(inputs: Inputs) -> np.ndarray:
    return -np.log(inputs["n"])


def _minus_log_tokens(inputs: Inputs) -> np.ndarray:
    return -np.log(inputs["tokens"])


_OF_N, _OF_T = "exp(width) n^-width_exponent", "exp(length) T^-length_exponent"
_WHOLE = Law(
    name="training",
    equation=f"L(n, T) = exp(log_floor) + {_OF_N} + {_OF_T}",
    inputs=("n", "tokens"),
    terms=(
        {"log_floor": one},
        {"width": one, "width_exponent": _minus_log_n},
        {"length": one, "length_exponent": _minus_log_tokens},
    ),
    starts={
        "log_floor": (-3.0, -1.5),
        "width": (0.0, 2.0),
        "width_exponent": (0.1, 0.3, 0.6),
        "length": (0.0, 3.0),
        "length_exponent": (0.1, 0.3, 0.6),
    },
    floor=("log_floor",),
    fixed=("k",),
    derived={
        "best_n_exponent": lambda p: (
            p["length_exponent"] / (p["width_exponent"] + p["length_exponent"])
        ),
        "best_tokens_exponent": lambda p: (
            p["width_exponent"] / (p["width_exponent"] + p["length_exponent"])
        ),
    },
    beside={"isoflop": isoflop},
    example={
        "log_floor": -1.6,
        "width": 1.0,
        "width_exponent": 0.3,
        "length": 3.0,
        "length_exponent": 0.3,
    },
)

training = replace(
    _WHOLE,
    nested=(without(_WHOLE, {"log_floor"}, "no floor", f"L(n, T) = {_OF_N} + {_OF_T}"),),
)
