"""The prompts of `ioi_prompts` as tokens, each at a place: a name, the end, or another (`ioi_attributions`).

Axes: T the tokens of a prompt.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dictlearn.analyses import _names
from dictlearn.lm import LM
from dictlearn.tasks import Task

PLACES = ("other", "io", "s1", "s2", "end")
"""The tokens of no name, of the indirect object, of the subject where it is first and where it is repeated, and
the last token."""


class Placed(NamedTuple):
    """A prompt. place_T: the place of each token, in PLACES. io, s: the right and the wrong next token."""

    tokens: list[int]
    place_T: np.ndarray
    io: int
    s: int


def placed(lm: LM, task: Task) -> list[Placed]:
    """The prompts of a task.

    Args:
        lm: the model.
        task: the prompts (tasks/ioi_prompts.py).

    Returns:
        The prompts, after the separator.

    Raises:
        ValueError: for names that the next token does not tell apart.
    """
    io_S, s_S = (task.attributes[name].tolist() for name in ("io", "s"))
    names = sorted({*io_S, *s_S})
    shared, name_N = _names.next_tokens(lm, names)
    token = dict(zip(names, name_N.tolist(), strict=True))
    encoded = lm.tokenizer.encode_batch(list(task.text), add_special_tokens=False)
    found = []
    for text, io, s, one in zip(task.text, io_S, s_S, encoded, strict=True):
        place_T = np.zeros(1 + len(one.ids) + len(shared), int)
        for place, (start, stop) in _spans(text, io, s).items():
            inside = [a < stop and b > start for a, b in one.offsets]
            place_T[1 + np.flatnonzero(inside)] = PLACES.index(place)
        place_T[-1] = PLACES.index("end")
        found.append(Placed([lm.separator, *one.ids, *shared], place_T, token[io], token[s]))
    return found


def _spans(text: str, io: str, s: str) -> dict[str, Sequence[int]]:
    """The characters of the names."""
    of = lambda name: [one.span() for one in re.finditer(rf"\b{re.escape(name)}\b", text)]
    first, again = of(s)
    return {"io": of(io)[0], "s1": first, "s2": again}
