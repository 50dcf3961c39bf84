"""The scaling law of a run in words and numbers, with its limitations."""

import html
import re
from collections.abc import Mapping

from dictlearn.report.drawn import figure
from dictlearn.report.markup import head, shown, table
from dictlearn.report.records import Run, tokens_trained

_GREEK = {
    **{"alpha": "α", "beta_k": "β<sub>k</sub>", "beta_n": "β<sub>n</sub>"},
    **{"gamma": "γ", "zeta": "ζ", "eta": "η"},
}
_ROLES = {
    "alpha": "size of the reducible error",
    "beta_k": "its exponent in k",
    "beta_n": "its exponent in the width n",
    "gamma": "how k and n interact",
    "zeta": "size of the irreducible error",
    "eta": "its exponent in k",
}
_AS_WELL = 1.1
"""A simpler law predicts as well if its held-out error is at most this times the joint law's."""


def section(run: Run) -> str:
    """The figure, the law, its prediction errors, and the caveats."""
    law = run.scaling
    if law is None:
        command = f"dictlearn fit --workdir={html.escape(str(run.workdir))}"
        return (
            "<p>No scaling law has been fitted to this run. It takes a sweep over"
            f" <code>n_latents</code> and <code>k</code>; <code>{command}</code> makes one.</p>"
        )
    return (
        f'{_figure(run)}<h3>The law</h3><p class="equation">{symbols(law["law"])}</p>'
        "<p><i>L</i> is the loss of a dictionary of <i>n</i> latents, <i>k</i> of them active."
        " The first term is the error that a wider dictionary would remove; the second is what"
        f' width alone does not.</p><div class="halves"><div>{_parameters(law)}</div>'
        f"<div>{_predictions(law)}</div></div>{_caveats(law, _length(law, run))}"
    )


def _figure(run: Run) -> str:
    drawing = run.workdir / "scaling.svg"
    if not drawing.exists():
        return ""
    return figure(
        drawing,
        "Loss against width, loss against sparsity, and errors of held-out predictions.",
        "Dots are dictionaries, lines the fitted law, bands its 5–95 % bootstrap interval. The loss"
        " is the fraction of variance unexplained on held-out tokens.",
    )


def _parameters(law: Mapping) -> str:
    rows = [
        f'<th scope="row">{symbols(name)}</th><td>{_ROLES.get(name, "")}</td>'
        f'<td class="number">{shown(p["value"], ".3f")}</td>'
        f'<td class="number">{shown(p["low"], ".3f")} … {shown(p["high"], ".3f")}</td>'
        for name, p in law["parameters"].items()
    ]
    heads = [head("", number=False), head("meaning", number=False), head("fitted"), head("5–95 %")]
    return f"<h3>Its parameters</h3>{table('Parameters', heads, rows, 'snug')}"


def symbols(text: str) -> str:
    """The law's equation with Greek letters and italic variables, as HTML."""
    text = html.escape(text).replace("L(n, k)", "<i>L</i>(<i>n</i>, <i>k</i>)")
    text = re.sub(r"\bln ([nk])\b", r"ln <i>\1</i>", text)
    return re.sub(r"[a-z]+(_[kn])?", lambda m: _GREEK.get(m.group(), m.group()), text)


def _predictions(law: Mapping) -> str:
    inside, largest = law["held_out_interior_worst"], law["largest_out"]
    text = (
        "Each cell of the grid was predicted by a fit that never saw it. The error is"
        f" {shown(law['held_out_median'], '.2%')} in the median and"
        f" {shown(law['held_out_worst'], '.2%')} at worst"
    )
    text += "." if inside is None else f"; {shown(inside, '.2%')} at worst inside the grid."
    if largest:
        text += (
            f" All dictionaries of {largest['n_latents']:,} latents, predicted from the narrower"
            f" ones, come out within {shown(largest['worst'], '.2%')}."
        )
    return f"<h3>How well it predicts</h3><p>{text}</p>{_competitors(law)}"


def _competitors(law: Mapping) -> str:
    """The nested laws' held-out errors, as multiples of the joint law's."""
    errors = law["competitors"]
    rows = [
        f'<th scope="row">{html.escape(name)}</th>'
        f'<td class="number">{error / errors["joint"]:.2f} ×</td>'
        for name, error in errors.items()
    ]
    heads = [head("law", number=False), head("held-out error")]
    return (
        f"{table('Simpler laws', heads, rows, 'snug')}"
        '<p class="note">Mean Huber loss of the held-out residuals in log <i>L</i>, over the joint'
        " law's. The simpler laws are the joint one without its interaction γ, without the floor's"
        " dependence η on k, without the floor, or without both γ and the floor.</p>"
    )


def _length(law: Mapping, run: Run) -> str:
    """The tokens of training of the dictionaries that were fitted."""
    chosen = law.get("at", {}).get("tokens")
    return f"{chosen:,.0f}" if chosen else tokens_trained(run)


def _caveats(law: Mapping, n_tokens: str) -> str:
    errors, known = law["competitors"], law["identified"]
    as_well = [n for n, e in errors.items() if n != "joint" and e <= _AS_WELL * errors["joint"]]
    points = []
    if as_well:
        points.append(
            f"A simpler law ({' or '.join(f'“{html.escape(name)}”' for name in as_well)}) predicts"
            " the held-out cells as well: these runs do not show that what it lacks is needed."
        )
    if not known["gamma"]:
        points.append("The interval of γ holds 0: the runs do not tell whether n and k interact.")
    points.append(
        f"{_floor(law)} Training was short, {n_tokens} tokens: this “irreducible” error includes"
        " whatever more training would remove."
    )
    points.append(
        f"Intervals come from {law['n_bootstrap']:,} bootstrap samples of {law['n_runs']} runs; on"
        " a grid this small they tend to be too narrow."
    )
    return f"<h3>Caveats</h3><ul>{''.join(f'<li>{point}</li>' for point in points)}</ul>"


def _floor(law: Mapping) -> str:
    """The share of the irreducible error in the loss, and whether the runs measure it."""
    share = law["irreducible"]["share_of_loss"]
    value, low, high = (shown(share[name], ".1%") for name in ("value", "low", "high"))
    text = f"The second term is {value} of the loss at the largest width (5–95 %: {low} to {high})."
    if not law["identified"]["irreducible"]:
        text += " It is <b>not identified</b>: ζ and η draw the curve, and measure nothing."
    return text
