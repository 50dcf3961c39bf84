"""Steering: whether a push of a latent makes the model predict the tokens on which the latent fires.

Each latent is added to, on every token but the first of some beginnings of sequences, until the predictions
have moved by a KL. Compared is the probability of the tokens at the latent's peaks: without the push, with it,
and with a random direction at the same KL, which is the control. See docs/steering.md.

Peaks are the latent's largest activations, at most one a document. The latents are those of the analysis
`examples`, unless they are given.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from dictlearn import steering
from dictlearn.analyses._asking import Latents, latents_of
from dictlearn.analyses._passages import documents, readable
from dictlearn.analyses._result import Result, Table
from dictlearn.analyses._subject import Subject, exactly
from dictlearn.analyses.examples import candidates, choose, top
from dictlearn.lm import LM, Prompts, prompts
from dictlearn.runs.trained import place
from dictlearn.steering import Effect, Intervention

NEEDS = ("model", "origin")

TOKENS = 12
"""Tokens of a beginning, at most."""


def steer(
    subjects: Sequence[Subject],
    *,
    dictionary: str = "",
    latents: int | Sequence[int] = (),
    n: int = 8,
    kl: float = 0.5,
    n_prompts: int = 8,
) -> Result:
    """The probability of the tokens on which latents fire, with the latents pushed to a KL.

    Args:
        subjects: one run on a language model's activations.
        dictionary: its name; empty for the one with the largest explained variance.
        latents, n: the latents; without any, `n` latents as `examples` chooses them.
        kl: the KL of the predictions in nats, met within 10 %.
        n_prompts: the number of beginnings.

    Returns:
        A Result with the `latents`, and how many of them `raised` their tokens more than the control did. The
        strength is None for a latent that reaches no such KL.

    Raises:
        ValueError: for an unknown dictionary or latent, a KL that is not positive, and no prompt.
    """
    (subject,) = exactly(1, subjects, "steer")
    if not kl > 0 or n_prompts < 1:
        raise ValueError(f"{kl=} must be positive, and {n_prompts=} at least 1.")
    seen = Latents.of(subject, dictionary)
    place(seen.dictionary)  # Refuses a dictionary of several taps.
    lm, tokens_ST = subject.lm, np.asarray(seen.found.tokens_ST)
    document_ST = documents(tokens_ST, lm.separator)
    shown = list(map(seen.known, latents_of(latents)))
    shown = shown or choose(seen.found, tokens_ST, document_ST, candidates(seen.found), n)
    read = prompts(lm, tokens_ST[:n_prompts, :TOKENS])
    plain_V = _plain(lm, read)
    found = {}
    for i in shown:
        peaks = np.unique(tokens_ST.flat[top(seen.found, document_ST, i)[0]])
        found[i] = _pushed(seen, i, read, kl, peaks, plain_V)
    return _result(seen, kl, found)


def _plain(lm: LM, read: Prompts) -> np.ndarray:
    """The mean probability of every token, predicted on the tokens that are changed."""
    logits_BPV, _ = jax.jit(lm.forward)(lm.params, read.tokens_BP)
    changed_BP = steering.whole(read)
    changed_BP[:, 0] = False
    return np.asarray(jax.nn.softmax(logits_BPV), np.float64)[changed_BP].mean(0)


def _pushed(
    seen: Latents, latent: int, read: Prompts, kl: float, peaks: np.ndarray, plain_V: np.ndarray
) -> dict[str, Any]:
    """What a push of one latent, and of a direction that is drawn for it, does to the tokens `peaks`."""
    word = lambda token: readable(seen.subject.lm.tokenizer, int(token))
    push = _reached(seen, Intervention("add", latents=(latent,)), read, kl)
    control = _reached(seen, Intervention("add", direction=_direction(seen, latent)), read, kl)
    share = lambda gain_V: float((plain_V + gain_V)[peaks].sum()) if len(peaks) else None
    return {
        "peaks": list(map(word, peaks)),
        "strength": push and push.strength,
        "kl": push and push.kl,
        "plain": share(0.0),
        "pushed": push and share(push.gain_V),
        "random": control and share(control.gain_V),
        "raised": [word(token) for token, _ in push.raised()] if push else [],
    }


def _direction(seen: Latents, latent: int) -> tuple[float, ...]:
    """A random unit direction at the tap that the dictionary writes."""
    module = seen.dictionary.module
    width = module.d_out or module.d_in
    direction_D = np.random.default_rng(latent).normal(size=width)
    return tuple((direction_D / np.linalg.norm(direction_D)).tolist())


def _reached(seen: Latents, push: Intervention, read: Prompts, kl: float) -> Effect | None:
    """The effect at the KL; None where no strength gives it."""
    try:
        return steering.calibrated(seen.subject.lm, seen.dictionary, push, read, kl)
    except steering.Unreachable:
        return None


def _result(seen: Latents, kl: float, found: Mapping[int, Mapping[str, Any]]) -> Result:
    names = ("peaks", "strength", "kl", "plain", "pushed", "random", "raised")
    heads = ("peaks on", "strength", "KL", "plain", "pushed", "random direction", "raised most")
    cell = lambda value: ", ".join(map(repr, value)) if isinstance(value, list) else value
    rows = [(i, *(cell(one[name]) for name in names)) for i, one in found.items()]
    more = [one for one in found.values() if (one["pushed"] or 0) > _bar(one)]
    title = f"Latents of {seen.dictionary.name} pushed to a KL of {kl:g}"
    values = {"dictionary": seen.dictionary.name, "kl": kl, "raised": len(more), "latents": found}
    return Result(values, [Table(title, ("latent", *heads), rows)])


def _bar(one: Mapping[str, Any]) -> float:
    """What the push must exceed: the larger probability of the plain prediction and the control."""
    return max(one["plain"] or 0, one["random"] or 0)
