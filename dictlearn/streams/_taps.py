"""The taps of a stream: one, or several that are concatenated."""

from collections.abc import Mapping, Sequence

import numpy as np

from dictlearn import lm as language


def chosen(
    taps: Sequence[str], wanted: str | Sequence[str] | None, where: str = "The recipe"
) -> tuple[str, ...]:
    """The taps among `taps` that match, in order.

    wanted: names and patterns as in `lm.expand_taps`, or None for the only tap. where: the owner of the
    taps, for the message. Raises ValueError, listing the taps, for None if there are several, and for a
    pattern without a match.
    """
    if wanted is None and len(taps) > 1:
        raise ValueError(f"{where} has several taps; choose stream.tap from {list(taps)}.")
    if wanted is None:
        return tuple(taps)
    return tuple(language.match_taps(taps, wanted, f"{where} has no tap"))


def width(widths: Mapping[str, int], taps: Sequence[str]) -> int:
    """The total width of these taps. Raises ValueError for taps of different widths."""
    if len({widths[tap] for tap in taps}) > 1:
        listed = ", ".join(f"{tap} has {widths[tap]}" for tap in taps)
        raise ValueError(f"Taps side by side must be of one width; {listed}.")
    return sum(widths[tap] for tap in taps)


def side_by_side(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Concatenates columns; a single part is returned without a copy."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def only(taps: Sequence[str]) -> str:
    """The only tap. Raises ValueError for several."""
    if len(taps) > 1:
        raise ValueError(f"Gradients are read at one tap, not at {list(taps)}; set stream.tap.")
    return taps[0]
