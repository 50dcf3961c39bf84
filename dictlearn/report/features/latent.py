"""The page of one latent, from its `Feature`."""

import html
import json
from collections.abc import Sequence
from functools import cache
from string import Template

from dictlearn.report.features.panels import Feature, Group, Lens, Panels
from dictlearn.report.features.passages import Window
from dictlearn.report.features.reads import Reads, Source
from dictlearn.report.markup import decimals, marked, shown, token
from dictlearn.report.page import asset
from dictlearn.report.svg import Panel, bars

_CUT, _PUSHED = "…", 5
_ALIGNED = "dimensions of its atom: value, share"
_CORRELATED = "dimensions of what it reads: correlation, cosine"


def render(panels: Panels, one: Feature) -> str:
    """The page as text."""
    n, form = panels.found.n_latents, decimals(one.largest)
    groups = "".join(_group(group, one.largest, form) for group in one.groups)
    return _template().substitute(
        index=one.index,
        before=(one.index - 1) % n,
        after=(one.index + 1) % n,
        name=html.escape(panels.dictionary.name or "dictionary"),
        pushed=html.escape(json.dumps(_pushed(one.lens))) if one.lens else "",
        summary=_summary(one, panels, form),
        body=f'<section class="panels-of">{_panels(one, panels, form)}</section>{groups}',
    )


def _pushed(lens: Lens) -> list[list[tuple[str, float]]]:
    """The tokens that it raises and lowers most, with their logits at an activation of 1."""
    sides = (lens.top[:_PUSHED], lens.bottom[:_PUSHED])
    return [[(text, float(f"{w * lens.size:.4g}")) for text, w in side] for side in sides]


@cache
def _template() -> Template:
    return Template(asset("features/latent.html"))


def _summary(one: Feature, panels: Panels, form: str) -> str:
    n_tokens = panels.found.n_tokens
    if not one.n_fired:
        return f'<p class="lead">It never fired on {n_tokens:,} tokens.</p>{_explained(one)}'
    peaks = ", ".join(f"{token(text)} × {count}" for text, count in one.peaks)
    return (
        f'{_explained(one)}<p class="lead">Fires on {shown(one.density, ".3%")} of {n_tokens:,} tokens'
        f" ({one.n_fired:,}); largest activation {one.largest:{form}}, mean where it fires"
        f" {one.mean:{form}}; peaks on {peaks}.</p>"
    )


def _explained(one: Feature) -> str:
    if one.explanation is None:
        return ""
    said, score = one.explanation
    scored = "" if score is None else f' <span class="note">score {score:.2f}</span>'
    return f'<p class="explanation">{html.escape(said)}{scored}</p>'


def _panels(one: Feature, panels: Panels, form: str) -> str:
    parts = [_activations(one, form)]
    if one.lens:
        parts.append(_lens(one.lens))
    if one.reads.raised:
        parts.append(_embeddings(one.reads))
    if one.reads.shares:
        parts.append(_heads(one.reads))
    if one.reads.sources:
        parts.append(_sources(one.reads, panels, form))
    like = "".join(_table(name, map(_neighbour, near)) for name, near in one.near.items() if near)
    parts.append(_panel("Latents like it", f'<div class="tables">{like}</div>') if like else "")
    return "".join(parts)


def _activations(one: Feature, form: str) -> str:
    title = f"Activations, density {shown(one.density, '.3%')}"
    drawn = _histogram(one.counts, "0", f"{one.largest:{form}}", title) if one.n_fired else ""
    aligned = (
        f'<td>{at}</td><td class="number">{shown(value, "+.3f")}</td>'
        f'<td class="number">{shown(share, ".1%")}</td>'
        for at, value, share in one.aligned
    )
    neurons = (
        f'<td>{at}</td><td class="number">{shown(r, "+.2f")}</td>'
        f'<td class="number">{shown(cosine, "+.2f")}</td>'
        for at, r, cosine in one.neurons
    )
    like = _table(_CORRELATED, neurons) if one.neurons else ""
    return _panel(title, f"{drawn}{_table(_ALIGNED, aligned)}{like}")


def _panel(title: str, body: str) -> str:
    return f'<div class="panel"><h2>{title}</h2>{body}</div>'


def _table(title: str, rows) -> str:
    head = f"<h3>{title}</h3>" if title else ""
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f"<div>{head}<table><tbody>{body}</tbody></table></div>"


def _neighbour(near: tuple[int, float]) -> str:
    latent, score = near
    return f'<td><a href="{latent}.html">{latent}</a></td><td class="number">{shown(score, ".2f")}</td>'


def _lens(lens: Lens) -> str:
    title = "Direct effect on the logits of all tokens"
    form = decimals(max(abs(lens.low), abs(lens.high)))
    ends = (shown(lens.low, form), shown(lens.high, form))
    sides = "".join(
        _table(name, (_logit(*one) for one in side))
        for name, side in (("raises", lens.top), ("lowers", lens.bottom))
    )
    note = (
        "Unit atom, brought to the residual stream; gain of the last norm, unembedding. Later layers and the"
        " norm's division are left out."
    )
    return _panel(
        "Logits",
        f'{_histogram(lens.counts, *ends, title)}<div class="tables">{sides}</div><p class="note">{note}</p>',
    )


def _embeddings(reads: Reads) -> str:
    sides = "".join(
        _table(name, (_logit(*one) for one in side))
        for name, side in (("raise it", reads.raised), ("lower it", reads.lowered))
    )
    note = "Encoder row and the embedding of each token, after the norm; the layers before are left out."
    return _panel("Tokens it reads", f'<div class="tables">{sides}</div><p class="note">{note}</p>')


def _heads(reads: Reads) -> str:
    shares, n = reads.shares, len(reads.shares)
    most = max(shares) or 1.0
    panel = Panel((0, n), (0, most * 1.05))
    panel.grid([(0.5, "0"), (n - 0.5, f"{n - 1}")], [(0, "0"), (most, shown(most, ".0%"))])
    panel.add(bars(panel, shares))
    order = sorted(range(n), key=lambda head: -shares[head])
    rows = (
        f'<td>{head}</td><td class="number">{shown(shares[head], ".1%")}</td>' for head in order
    )
    title = "Share of each head in its atom"
    return _panel("Heads", f"{panel.svg(title)}{_table('head, share of its atom', rows)}")


def _sources(reads: Reads, panels: Panels, form: str) -> str:
    largest = max(abs(one.val) for one in reads.sources) or 1.0
    rows = (_source(one, panels.word(one.token), largest, form) for one in reads.sources)
    head = "token, how far before its peak, what it adds, and the head with most of it"
    note = (
        f"All tokens add {shown(reads.total, f'+{form}')} to the pre-activation at its largest activation."
        " The biases belong to no token."
    )
    return _panel("Where its peak comes from", f'{_table(head, rows)}<p class="note">{note}</p>')


def _source(one: Source, text: str, largest: float, form: str) -> str:
    kind, width = "hurts" if one.val < 0 else "helps", abs(one.val) / largest
    return (
        f'<td>{token(text)}</td><td class="number">{one.before}</td>'
        f'<td class="length"><i class="{kind}" style="--w:{width:.2f}"></i></td>'
        f'<td class="number">{shown(one.val, f"+{form}")}</td><td class="number">{one.head}</td>'
    )


def _logit(text: str, weight: float) -> str:
    return f'<td>{token(text)}</td><td class="number">{shown(weight, "+.2f")}</td>'


def _histogram(counts: Sequence[int], low: str, high: str, title: str) -> str:
    tallest, n = max(counts, default=0) or 1, len(counts)
    panel = Panel((0, n), (0, tallest * 1.05))
    panel.grid([(0, low), (n, high)], [(0, "0"), (tallest, f"{tallest:,}")])
    panel.add(bars(panel, counts))
    return panel.svg(title)


def _group(group: Group, largest: float, form: str) -> str:
    if group.share is None:
        title = "Largest activations"
    else:
        title = (
            f"Interval {group.low:{form}} – {group.high:{form}}"
            f' <span class="note">contains {shown(group.share, ".1%")}</span>'
        )
    windows = "".join(_window(one, largest, form) for one in group.windows)
    listed = f'<ol class="passages">{windows}</ol>' if windows else ""
    return f"<section><h2>{title}</h2>{listed}</section>"


def _window(one: Window, largest: float, form: str) -> str:
    before, after = _CUT * one.cut_before, _CUT * one.cut_after
    cells = "".join(
        marked(text)
        if val == 0
        else _cell(text, val, largest, form, i == one.peak, one.effects.get(i))
        for i, (text, val) in enumerate(one.cells)
    )
    return (
        f'<li><span class="value">{one.val:{form}}</span>'
        f'<span class="text">{before}{cells}{after}</span></li>'
    )


def _cell(
    text: str, val: float, largest: float, form: str, peak: bool, effect: float | None
) -> str:
    """An active cell, shaded by its share of the largest activation, underlined by its effect on the loss. A
    space before a word is neither."""
    word = text.lstrip(" ") or text
    space, tag = " " * (len(text) - len(word)), "mark" if peak else "span"
    said, kind, depth = f"{val:{form}}", "", ""
    if effect is not None:
        said += f"; loss {shown(effect, '+.3f')} without it"
        kind = ' class="helps"' if effect > 0 else ' class="hurts"'
        depth = f";--e:{min(abs(effect), 1):.2f}"
    shade = f'{kind} style="--a:{abs(val) / largest:.2f}{depth}" title="{said}"'.lstrip()
    return f"{space}<{tag} {shade}>{marked(word)}</{tag}>"
