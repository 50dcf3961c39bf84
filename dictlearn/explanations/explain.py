"""Explanations of latents by a language model that reads windows in which they fire.

The prompt shows the train windows, the strongest first, with marks around the tokens that fire, and the
strengths of the marked tokens from 1 to 10. With contrast windows it ends with texts in which the latent is
silent. The explanation is the text after the last marker of the reply; a reply without it is a failure.

Source: delphi (code of 0.1.3), its default and its contrastive explainer; Paulo et al. 2024 (arXiv:2410.13928).
Differs: our own prompt.
"""

import json
import math
from collections.abc import Sequence

from dictlearn.explanations.client import CHAT, Request
from dictlearn.explanations.samples import Example, Sample
from dictlearn.explanations.templates import Prompt, load

MARKER = "[EXPLANATION]:"
_MOST_PAIRS = 10
_STRENGTHS = 10
_SILENT = "The latent is silent in all of these texts:"


def prompt() -> Prompt:
    """The prompt of explanations.

    Returns:
        The newest version.
    """
    return load("explain")


def request(
    sample: Sample,
    *,
    share: float = 0.3,
    strengths: bool = True,
    max_tokens: int = 500,
    temperature: float = 0.0,
    seed: int = 0,
) -> Request:
    """The request for an explanation.

    Args:
        sample: the windows of a latent.
        share: of a window's largest activation from which on a token is marked.
        strengths: whether the strengths of marked tokens are listed.
        max_tokens: the longest reply.
        temperature, seed: of a reply that is drawn; 0 for the most probable one.

    Returns:
        A request.
    """
    lines = []
    for number, one in enumerate(sample.train, 1):
        lines.append(f"Example {number}: {one.marked(one.firing(share))}")
        if strengths:
            lines.append(f"Activations: {_pairs(one, share, sample.largest)}")
    if sample.contrast:
        lines += [_SILENT, *(f"Text {i}: {one.text}" for i, one in enumerate(sample.contrast, 1))]
    messages = prompt().fill(examples="\n".join(lines))
    return Request(CHAT, messages, max_tokens=max_tokens, temperature=temperature, seed=seed)


def parsed(reply: str) -> str | None:
    """The explanation in a reply.

    Args:
        reply: the text of the reply.

    Returns:
        The text after the last marker in one line; None without one.

    Example:
        >>> parsed("Perhaps days. [EXPLANATION]: names of days"), parsed("names of days")
        ('names of days', None)
    """
    _, marker, said = reply.rpartition(MARKER)
    return " ".join(said.split()) or None if marker else None


def _pairs(one: Example, share: float, largest: float) -> str:
    """The marked cells with their strengths, the first ones of many."""
    at: Sequence[int] = one.firing(share)[:_MOST_PAIRS]
    pair = lambda i: (
        f"({json.dumps(one.cells[i], ensure_ascii=False)}, {strength(one.vals[i], largest)})"
    )
    return ", ".join(map(pair, at))


def strength(val: float, largest: float) -> int:
    """An activation as a whole number from 0 to 10."""
    return min(_STRENGTHS, max(0, math.ceil(_STRENGTHS * val / largest))) if largest else 0
