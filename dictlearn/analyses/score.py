"""Scores of the explanations of latents, by judges that have not seen the windows they were made from.

The scorers are the files of `explanations/scorers/`. The first one's score is shown on the feature pages and in
their index. Windows are drawn as those of the explanation were, so that no text is in both. Replies are kept as
by the analysis `explain`. See docs/explanations.md.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dictlearn.analyses import _explanations
from dictlearn.analyses._asking import Ask, Latents, latents_of, settings_of
from dictlearn.analyses._events import identity
from dictlearn.analyses._result import Result, Table
from dictlearn.analyses._subject import Subject, exactly
from dictlearn.explanations import Case, Plan, Sampling, Score, scorers
from dictlearn.explanations.rates import ratio

NEEDS = ("model", "origin")
_BY = {"quantiles": ("detection", "fuzzing"), "autointerp": ("autointerp",)}
"""The usual scorers of a protocol."""


def score(
    subjects: Sequence[Subject],
    *,
    dictionary: str = "",
    latents: int | Sequence[int] = (),
    by: str | Sequence[str] = (),
    settings: Mapping[str, Mapping[str, Any]] = {},
    ask: Mapping[str, Any] = {},
    sampling: Mapping[str, Any] = {},
) -> Result:
    """Scores of the explanations of one dictionary's latents.

    Args:
        subjects: one run whose latents have explanations.
        dictionary: its name; empty for the one with the largest explained variance.
        latents: the latents; empty for all that have an explanation.
        by, settings: the scorers, and their settings, {scorer: {setting: value}}; without any, those of the
            protocol that drew the windows.
        ask: client, url, model, timeout, at_once, most_tokens, price (`_asking.Ask`).
        sampling: for explanations that do not say how their windows were drawn.

    Returns:
        A Result with the `scores` of each latent, and what each scorer gives over all.
    """
    (subject,) = exactly(1, subjects, "score")
    asked, seen = settings_of(Ask, ask, "ask"), Latents.of(subject, dictionary)
    said = _said(seen, latents_of(latents), sampling)
    names = [by] if isinstance(by, str) else list(by or _usual(said))
    cases = [Case(i, text, seen.sample(i, how), how.seed) for i, (text, how) in said.items()]
    plans = [[_plan(s, case, seen, settings.get(s, {})) for s in names] for case in cases]
    scores = _results(plans, asked, subject)
    about = {"judge": asked.of(subject).name, "prompts": _prompts(names, plans)}
    found = {c.latent: _line(c, names, own, about) for c, own in zip(cases, scores, strict=True)}
    _explanations.update(seen.file, found)
    return _result(seen, names, cases, scores, about)


def _said(
    seen: Latents, latents: Sequence[int], default: Mapping[str, Any]
) -> dict[int, tuple[str, Sampling]]:
    """{latent: (its explanation, how its windows are drawn)}."""
    lines = _explanations.read(seen.file)
    if lacking := [i for i in latents if i not in lines] if lines else ["any latent"]:
        raise ValueError(
            f"{seen.file} has no explanation of {lacking[0]}; `dictlearn analyse explain` writes them."
        )
    chosen = latents or sorted(lines)
    for i in chosen:
        _refuse_other_events(seen, i, lines[i])
    how = lambda line: settings_of(Sampling, line.get("sampling", default), "sampling")
    return {i: (lines[i]["text"], how(lines[i])) for i in chosen}


def _refuse_other_events(seen: Latents, latent: int, line: Mapping[str, Any]) -> None:
    """Raises ValueError for an explanation from other events than those that windows are drawn from."""
    now = identity(seen.found)
    was = line.get("events", now)
    if other := [part for part in now if was.get(part) != now[part]]:
        raise ValueError(
            f"{seen.file}: the explanation of latent {latent} is from the events of another {other[0]}, so it "
            "is not known which windows it was not made from. `dictlearn analyse explain` explains it again; "
            "score.latents chooses others."
        )


def _usual(said: Mapping[int, tuple[str, Sampling]]) -> tuple[str, ...]:
    """The scorers of the protocol, if it is the same for all."""
    return _BY.get("+".join({how.protocol for _, how in said.values()}), _BY["quantiles"])


def _plan(name: str, case: Case, seen: Latents, settings: Mapping[str, Any]) -> Plan:
    """The plan of a scorer, which is given what it needs of the model."""
    given = scorers.given(name, seen.in_model, case.latent)
    return scorers.plan(name, case._replace(given=given), **settings)


def _results(plans: Sequence[Sequence[Plan]], ask: Ask, subject: Subject) -> list[list[Score]]:
    """The scores of all plans, whose requests are sent together."""
    flat = [plan for own in plans for plan in own]
    replies = iter(ask.send(subject, [r for plan in flat for r in plan.requests], "score"))
    return [[plan.result([next(replies) for _ in plan.requests]) for plan in own] for own in plans]


def _prompts(names: Sequence[str], plans: Sequence[Sequence[Plan]]) -> dict[str, str]:
    return {name: plan.prompt for name, plan in zip(names, plans[0], strict=True) if plan.prompt}


def _line(
    case: Case, names: Sequence[str], own: Sequence[Score], about: Mapping[str, Any]
) -> dict[str, Any]:
    """The line of a latent in the file of explanations."""
    values = {name: one.value for name, one in zip(names, own, strict=True)}
    return {"text": case.explanation, "score": own[0].value, "scores": values, **about}


def _result(seen: Latents, names, cases: list[Case], scores: list[list[Score]], about) -> Result:
    density_I = seen.found.density_F[[case.latent for case in cases]]
    summary = {n: _summary([own[i] for own in scores], density_I) for i, n in enumerate(names)}
    pairs = list(zip(cases, scores, strict=True))
    rows = [(case.latent, case.explanation, *(one.value for one in own)) for case, own in pairs]
    columns = ("mean", "deviation", "latents", "coverage", "f1_by_density")
    tables = [
        Table("Scores", ("scorer", *columns), [(n, *map(summary[n].get, columns)) for n in names]),
        Table(f"Latents of {seen.dictionary.name}", ("latent", "explanation", *names), rows),
    ]
    all_of = lambda own: {name: one.values for name, one in zip(names, own, strict=True)}
    each = {str(case.latent): all_of(own) for case, own in pairs}
    values = {"dictionary": seen.dictionary.name, **about, "scorers": summary, "scores": each}
    return Result(values, tables)


def _summary(own: Sequence[Score], density_I: np.ndarray) -> dict[str, float]:
    """Over latents with a score. f1_by_density: the mean F1, weighted by how often a latent fires."""
    values = np.array([one.value for one in own])
    values = values[~np.isnan(values)]
    f1 = np.array([one.values.get("f1", np.nan) for one in own])
    rated = ~np.isnan(f1)
    return {
        "mean": ratio(values.sum(), len(values)),
        "deviation": float(values.std()) if len(values) else np.nan,
        "latents": len(values),
        "coverage": float(np.mean([one.values.get("coverage", np.nan) for one in own])),
        "f1_by_density": ratio((f1 * density_I)[rated].sum(), density_I[rated].sum()),
    }
