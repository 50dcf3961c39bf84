"""L(n, T), of latents and tokens of training at one k: how many more tokens a wider dictionary needs.

What training lacks falls with tokens from a level that grows with width. The tokens after which it is down to
one value are therefore a power of width, whose exponent is `needed_tokens_exponent`. With a level that does not
depend on width it is the law `training`, in which every width needs the same tokens.

Source: Gao et al. 2024, "Scaling and evaluating sparse autoencoders", section 3.1: the tokens to convergence
are a power of latents, with exponents of about 0.60 (GPT-2 small) and 0.65 (GPT-4).

Differs: the paper counts the tokens at which the loss of one training stops to fall, UNSURE by which rule; here
every length is a training of its own, with its own decay of the learning rate.
"""

from dataclasses import replace

import numpy as np

from dictlearn.scaling.law import Inputs, Law, one, without


def _log_n(inputs: Inputs) -> np.ndarray:
    return np.log(inputs["n"])


def _minus_log_n(inputs: Inputs) -> np.ndarray:
    return -_log_n(inputs)


def _minus_log_tokens(inputs: Inputs) -> np.ndarray:
    return -np.log(inputs["tokens"])


_OF_N = "exp(width) n^-width_exponent"
_OF_T = "exp(length) {}T^-length_exponent"
_WHOLE = Law(
    name="convergence",
    equation=f"L(n, T) = exp(log_floor) + {_OF_N} + {_OF_T.format('n^level_exponent ')}",
    inputs=("n", "tokens"),
    terms=(
        {"log_floor": one},
        {"width": one, "width_exponent": _minus_log_n},
        {"length": one, "level_exponent": _log_n, "length_exponent": _minus_log_tokens},
    ),
    starts={
        "log_floor": (-3.0, -1.5),
        "width": (0.0, 2.0),
        "width_exponent": (0.1, 0.5),
        "length": (0.0, 3.0),
        "level_exponent": (0.0, 0.3),
        "length_exponent": (0.2, 0.6),
    },
    floor=("log_floor",),
    fixed=("k",),
    derived={"needed_tokens_exponent": lambda p: p["level_exponent"] / p["length_exponent"]},
    example={
        "log_floor": -1.6,
        "width": 1.0,
        "width_exponent": 0.3,
        "length": 3.0,
        "level_exponent": 0.3,
        "length_exponent": 0.5,
    },
)

convergence = replace(
    _WHOLE,
    nested=(
        without(
            _WHOLE,
            {"log_floor"},
            "no floor",
            f"L(n, T) = {_OF_N} + {_OF_T.format('n^level_exponent ')}",
        ),
        without(
            _WHOLE,
            {"level_exponent"},
            "one length for all widths",
            f"L(n, T) = exp(log_floor) + {_OF_N} + {_OF_T.format('')}",
        ),
    ),
)
