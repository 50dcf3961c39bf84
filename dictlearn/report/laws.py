"""The laws of a run that were fitted by name, beside the joint one: each with its figure and its parameters."""

import html
from collections.abc import Mapping
from pathlib import Path

from dictlearn.report.drawn import figure
from dictlearn.report.markup import head, shown, table
from dictlearn.report.records import fitted_law

NEEDED = {
    *("law", "parameters", "identified", "derived", "beside", "loss", "n_runs", "n_bootstrap"),
    *("held_out_median", "held_out_worst", "largest_out"),
}
"""What a section shows of a law's file."""


def sections(workdir: Path) -> list[tuple[str, str, str]]:
    """(id, title, body) of each `scaling_NAME.json`, by name."""
    found = []
    for file in sorted(workdir.glob("scaling_*.json")):
        name = file.stem.removeprefix("scaling_")
        found.append((f"law-{name}", f"The law of {html.escape(name)}", _body(file, name)))
    return found


def _body(file: Path, name: str) -> str:
    law = fitted_law(file, NEEDED, f"dictlearn fit --law={name} --workdir={file.parent}")
    drawing = file.with_suffix(".svg")
    alt = f"The law of {name}: the loss against each input, and errors of held-out predictions."
    picture = figure(drawing, alt, _caption(law)) if drawing.exists() else ""
    words = f'<p class="equation">{html.escape(law["law"])}</p>'
    best = _best(law["beside"]["isoflop"]) if "isoflop" in law["beside"] else ""
    return f"{picture}{words}{_numbers(law)}{_held_out(law)}{best}"


def _caption(law: Mapping) -> str:
    return (
        f"Dots are dictionaries, lines the fitted law of {html.escape(law['loss'])}, bands its 5–95 %"
        f" interval over {law['n_bootstrap']:,} bootstrap samples of {law['n_runs']} dictionaries."
    )


def _numbers(law: Mapping) -> str:
    """The parameters and the numbers that follow from them."""
    heads = [head("", number=False), head("fitted"), head("5–95 %"), head("", number=False)]
    unknown = lambda name: "" if law["identified"].get(name, True) else "not identified"
    rows = [
        f'<th scope="row">{html.escape(name)}</th><td class="number">{shown(one["value"], ".4g")}</td>'
        f'<td class="number">{shown(one["low"], ".4g")} … {shown(one["high"], ".4g")}</td>'
        f"<td>{unknown(name)}</td>"
        for name, one in {**law["parameters"], **law["derived"]}.items()
    ]
    return table("Parameters", heads, rows, "snug")


def _held_out(law: Mapping) -> str:
    """Errors on cells that the fit has not seen."""
    text = (
        "<p>Each cell was predicted by a fit that never saw it: the error is"
        f" {shown(law['held_out_median'], '.2%')} in the median and"
        f" {shown(law['held_out_worst'], '.2%')} at worst."
    )
    if largest := law["largest_out"]:
        text += (
            " The largest, predicted from the smaller ones, come out within"
            f" {shown(largest['worst'], '.2%')}."
        )
    return f"{text}</p>"


def _best(found: Mapping) -> str:
    """The minima along lines of equal compute."""
    heads = [head("n × tokens"), head("best n"), head("best tokens")]
    keys = ("n_times_tokens", "n_latents", "tokens")
    rows = [
        "".join(f'<td class="number">{shown(one[key], ",.0f")}</td>' for key in keys)
        for one in found["minima"]
    ]
    exponents = (shown(found[f"best_{of}_exponent"], ".3f") for of in ("n", "tokens"))
    return (
        f"<h3>The best at equal compute</h3>{table('Minima', heads, rows, 'snug')}"
        '<p class="note">Minima of parabolas through dictionaries of equal n × tokens; a line whose'
        " lowest loss is at its end has none. Exponents of the best n and of the best number of tokens"
        " in the compute: {} and {}.</p>".format(*exponents)
    )
