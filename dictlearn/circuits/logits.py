"""The targets of an attribution graph: the likeliest next tokens, or given tokens and directions.

    direction of token v    U_v - mean of U over the vocabulary

so that its effect is on the logit less the mean logit, and tokens are compared with each other. A cap of the
logits is left out: effects are on what is capped.

Source: Ameisen et al. 2025, "Circuit tracing"; circuit-tracer's `AttributionTargets`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from dictlearn.circuits.graph import Logit
from dictlearn.lm import cells
from dictlearn.lm.model import LM

MOST, MASS = 10, 0.95


class Direction(NamedTuple):
    """A direction that is no token, such as the difference of two tokens.

    text: its name. weight: its share of the influence. vector_D: the direction at the tap `final`.
    """

    text: str
    weight: float
    vector_D: np.ndarray


Target = str | int | Direction
"""A token by its text or its number, or a direction."""


def difference(lm: LM, right: int, wrong: int) -> Direction:
    """The difference of the logits of two tokens.

    Args:
        lm: the language model.
        right, wrong: the token whose logit counts, and the one whose logit is taken from it.

    Returns:
        The direction U_right - U_wrong, with a weight of 1.

    Raises:
        ValueError: for tokens that the model does not have.
    """
    lm.check_tokens(np.asarray([right, wrong]), "The targets")
    unembed_VD = _unembed(lm)
    text = " - ".join(cells.decode(lm.tokenizer, [one]) for one in (right, wrong))
    return Direction(text, 1.0, unembed_VD[right] - unembed_VD[wrong])


def _unembed(lm: LM) -> np.ndarray:
    return np.asarray(lm.params["embed_VD"] if lm.spec.tied else lm.params["unembed_DV"].T)


def targets(
    lm: LM,
    logits_V: Float[np.ndarray, " V"],
    chosen: Sequence[Target] | None = None,
    most: int = MOST,
    mass: float = MASS,
) -> tuple[list[Logit], Float[np.ndarray, "K D"]]:
    """The targets and their directions.

    Args:
        lm, logits_V: the language model; its logits after the last token.
        chosen: the targets; None for the smallest set of the likeliest tokens with the probability `mass`.
        most, mass: the largest number of likeliest tokens; the probability that they should have together.

    Returns:
        (targets, directions).

    Raises:
        ValueError: for no targets, a text that is not one token, a token that the model does not have, a
            direction of another width, and for `most` and `mass` out of range.
    """
    probability_V = np.exp(logits_V - logits_V.max(), dtype=np.float64)
    probability_V /= probability_V.sum()
    if chosen is None:
        chosen = likeliest(probability_V, most, mass)
    if not chosen:
        raise ValueError("No targets; give tokens or directions, or None for the likeliest tokens.")
    unembed_VD = _unembed(lm)
    mean_D = unembed_VD.mean(0, dtype=np.promote_types(unembed_VD.dtype, np.float32))
    found, rows = zip(
        *(_target(lm, one, probability_V, unembed_VD, mean_D) for one in chosen), strict=True
    )
    return list(found), np.stack(rows).astype(mean_D.dtype)


def _target(lm: LM, one: Target, probability_V, unembed_VD, mean_D) -> tuple[Logit, np.ndarray]:
    if isinstance(one, Direction):
        return Logit(-1, one.text, one.weight), _fitting(one, lm.spec.d_model)
    token = _token(lm, one)
    text = cells.decode(lm.tokenizer, [token])
    return Logit(token, text, float(probability_V[token])), unembed_VD[token] - mean_D


def likeliest(probability_V: Float[np.ndarray, " V"], most: int, mass: float) -> list[int]:
    """The smallest set of tokens with at least a probability, the likeliest first.

    Args:
        probability_V: the probabilities.
        most: the largest number of tokens.
        mass: the probability.

    Returns:
        At least one token.

    Raises:
        ValueError: for `most` below 1, and `mass` outside 0 to 1.
    """
    if most < 1 or not 0 <= mass <= 1:
        raise ValueError(f"{most=} must be at least 1, and {mass=} between 0 and 1.")
    order = np.argsort(-probability_V, kind="stable")[:most]
    enough = int(np.searchsorted(np.cumsum(probability_V[order]), mass)) + 1
    return order[:enough].tolist()


def _token(lm: LM, one: str | int) -> int:
    if isinstance(one, str):
        ids = lm.tokenizer.encode(one, add_special_tokens=False).ids
        if len(ids) != 1:
            raise ValueError(
                f"The target {one!r} is {len(ids)} tokens of {lm.name}, {ids}; a target is one token."
            )
        return ids[0]
    lm.check_tokens(np.asarray([one]), "The targets")
    return int(one)


def _fitting(one: Direction, width: int) -> np.ndarray:
    vector_D = np.asarray(one.vector_D)
    if vector_D.shape != (width,) or not np.isfinite(vector_D).all() or one.weight < 0:
        raise ValueError(
            f"The direction {one.text!r} has shape {vector_D.shape} and weight {one.weight}; it needs shape "
            f"({width},), finite numbers, and a weight of at least 0."
        )
    return vector_D
