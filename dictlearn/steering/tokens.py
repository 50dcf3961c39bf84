"""Which tokens of prompts an intervention changes."""

import numpy as np

from dictlearn.lm import Prompts
from dictlearn.steering.intervention import Intervention


def changed(one: Intervention, prompts: Prompts) -> np.ndarray:
    """Which tokens of the prompts an intervention changes.

    Args:
        one: the intervention.
        prompts: the prompts.

    Returns:
        A mask in the shape of `prompts.tokens_BP`, False at padding.

    Raises:
        ValueError: for a place that a prompt does not have.

    Example:
        >>> prompts = Prompts(np.array([[5, 6, 7, 7]]), np.array([3]))
        >>> changed(Intervention("set", (0,), 1.0, positions="last"), prompts)
        array([[False, False,  True, False]])
    """
    changed_BP = _placed(one, prompts)
    if not one.first:
        changed_BP[:, 0] = False
    if one.after is not None:
        seen_BP = np.cumsum(prompts.tokens_BP == one.after, axis=1) > 0
        changed_BP[:, 0] = False
        changed_BP[:, 1:] &= seen_BP[:, :-1]
    return changed_BP


def _placed(one: Intervention, prompts: Prompts) -> np.ndarray:
    """The tokens that its positions name."""
    length_B, place_P = prompts.length_B, np.arange(prompts.tokens_BP.shape[1])
    if one.positions == "generated":
        return np.zeros(prompts.tokens_BP.shape, bool)
    if one.positions == "last":
        return place_P == length_B[:, None] - 1
    if isinstance(one.positions, str):
        return place_P < length_B[:, None]
    return _at(one.positions, length_B, place_P)


def changed_later(one: Intervention, prompts: Prompts) -> np.ndarray:
    """Which prompts have generated tokens that an intervention changes.

    Args:
        one: the intervention.
        prompts: the prompts.

    Returns:
        A mask `[B, 1]`. With `after`, it is True for prompts that hold that token.

    Example:
        >>> prompts = Prompts(np.array([[5, 6, 7, 7]]), np.array([3]))
        >>> changed_later(Intervention("set", (0,), 1.0), prompts)
        array([[ True]])
    """
    n_prompts = len(prompts.length_B)
    if one.positions not in ("all", "generated"):
        return np.zeros((n_prompts, 1), bool)
    if one.after is None:
        return np.ones((n_prompts, 1), bool)
    return (prompts.tokens_BP == one.after).any(axis=1, keepdims=True)


def _at(places: tuple[int, ...], length_B: np.ndarray, place_P: np.ndarray) -> np.ndarray:
    shortest = int(length_B.min())
    if outside := [place for place in places if not -shortest <= place < shortest]:
        raise ValueError(f"Place {outside[0]} is outside a prompt of {shortest} tokens.")
    at_BN = np.array(places)[None] + (np.array(places) < 0) * length_B[:, None]
    return (place_P[None, :, None] == at_BN[:, None]).any(-1)
