"""The taps that a stream reads: one, or several that are concatenated, each a source of the same tokens."""

from collections.abc import Mapping, Sequence

import numpy as np

from dictlearn import lm as language


def chosen(
    taps: Sequence[str], wanted: str | Sequence[str] | None, where: str = "The recipe"
) -> tuple[str, ...]:
    """The taps among `taps` that are meant, in order: names and patterns as in `lm.expand_taps`, or None
    for the only one. where: what has them, for the message.

    Errors: ValueError, listing the taps there are, for None where they are several, and for a name or
    a pattern that is none of them."""
    if wanted is None and len(taps) > 1:
        raise ValueError(f"{where} has several taps; choose stream.tap from {list(taps)}.")
    if wanted is None:
        return tuple(taps)
    return tuple(language.match_taps(taps, wanted, f"{where} has no tap"))


def width(widths: Mapping[str, int], taps: Sequence[str]) -> int:
    """The width of these taps side by side. Errors: ValueError where they are not of one width."""
    if len({widths[tap] for tap in taps}) > 1:
        listed = ", ".join(f"{tap} has {widths[tap]}" for tap in taps)
        raise ValueError(f"Taps side by side must be of one width; {listed}.")
    return sum(widths[tap] for tap in taps)


def side_by_side(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Their columns side by side; one part is itself, uncopied."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def only(taps: Sequence[str]) -> str:
    """The one tap there is. Errors: ValueError where several stand side by side."""
    if len(taps) > 1:
        raise ValueError(f"Gradients are read at one tap, not at {list(taps)}; set stream.tap.")
    return taps[0]
