"""Explanations of latents: a language model reads windows in which a latent fires, and describes it.

They are written to `explanations/NAME.jsonl`, where the feature pages and the analysis `score` read them. Every
reply is kept in `replies.jsonl`, so that the same command, after a kill or with more latents, pays for no
request twice. See docs/explanations.md.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from dictlearn.analyses import _explanations
from dictlearn.analyses._asking import Ask, Latents, latents_of, settings_of
from dictlearn.analyses._events import identity
from dictlearn.analyses._result import Result, Table
from dictlearn.analyses._subject import Subject, exactly
from dictlearn.explanations import Sampling, autointerp
from dictlearn.explanations import explain as prompts

NEEDS = ("model", "origin")


def explain(
    subjects: Sequence[Subject],
    *,
    dictionary: str = "",
    latents: int | Sequence[int] = (),
    n: int = 20,
    ask: Mapping[str, Any] = {},
    sampling: Mapping[str, Any] = {},
) -> Result:
    """Describes latents of one dictionary.

    Args:
        subjects: one run on a language model's activations.
        dictionary: its name; empty for the one with the largest explained variance.
        latents, n: the latents; without any, `n` random ones that fire often enough.
        ask: client, url, model, timeout, at_once, most_tokens, price (`_asking.Ask`).
        sampling: settings of `explanations.Sampling`.

    Returns:
        A Result with the `explanations`, and the latents that `failed`, whose replies hold none.
    """
    (subject,) = exactly(1, subjects, "explain")
    asked, how = settings_of(Ask, ask, "ask"), settings_of(Sampling, sampling, "sampling")
    seen = Latents.of(subject, dictionary)
    chosen = latents_of(latents) or seen.some(n, how)
    form = autointerp if how.protocol == autointerp.NAME else prompts
    requests = [form.request(seen.sample(i, how), seed=how.seed) for i in chosen]
    said = [form.parsed(one.text) for one in asked.send(subject, requests, "explain")]
    about = {"by": asked.of(subject).name, "prompt": form.prompt().label}
    return _written(seen, dict(zip(chosen, said, strict=True)), about, how)


def _written(
    seen: Latents, said: Mapping[int, str | None], about: Mapping[str, Any], how: Sampling
) -> Result:
    name, rows = seen.dictionary.name, [(i, text) for i, text in said.items() if text]
    line = {**about, "sampling": dataclasses.asdict(how), "events": identity(seen.found)}
    _explanations.update(seen.file, {i: {"text": text, **line} for i, text in rows})
    values = {"dictionary": name, **line, "explanations": {str(i): text for i, text in rows}}
    values["failed"] = [i for i, text in said.items() if not text]
    return Result(values, [Table(f"Explanations of {name}", ("latent", "explanation"), rows)])
