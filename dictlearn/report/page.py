"""The page: its sections in order, inserted into `page.html` with its style and script."""

import html
import json
from collections.abc import Sequence
from importlib import resources
from string import Template

from dictlearn.analyses.examples import Study
from dictlearn.report import analyses, cards, figures, law, laws, table
from dictlearn.report.markup import shown
from dictlearn.report.records import (
    Record,
    Run,
    best,
    label,
    settings,
    tokens_trained,
    varying,
)
from dictlearn.runs.checkpoint import versions


def render(run: Run, study: Study | None) -> str:
    """The whole page as text."""
    where = _where(run)
    named = laws.sections(run.workdir)
    sections = [
        ("scaling", "Scaling", law.section(run) if run.scaling or not named else ""),
        *named,
        ("dictionaries", "All dictionaries", table.section(run.records)),
        ("training", "Training", figures.training(run)),
        ("densities", "How often latents fire", figures.densities(run.records)),
        *analyses.sections(run.workdir),
        ("latents", "A few latents", cards.section(study) if study else ""),
    ]
    return document(f"Dictionaries of {where}", _summary(run, where), sections, _footer(run))


def document(
    title: str, summary: str, sections: Sequence[tuple[str, str, str]], footer: str
) -> str:
    """A page as text. sections: (id, title, HTML); one without HTML is left out."""
    present = [section for section in sections if section[2]]
    return Template(asset("page.html")).substitute(
        title=html.escape(title),
        style=asset("style.css"),
        script=asset("sort.js") + asset("copy.js"),
        contents="".join(f'<li><a href="#{key}">{title}</a></li>' for key, title, _ in present),
        summary=summary,
        sections="".join(
            f'<section id="{key}"><h2>{title}</h2>{body}</section>' for key, title, body in present
        ),
        footer=footer,
    )


def asset(name: str) -> str:
    return (resources.files("dictlearn.report") / name).read_text("utf-8")


def _where(run: Run) -> str:
    """The site of the dictionaries: "resid.9 in smollm2", or the stream."""
    stream, model = run.config["stream"], run.config.get("model")
    if model:
        taps = run.config.get("harvest", {}).get("taps", ["activations"])
        return f"{stream.get('target') or stream.get('tap') or taps[0]} in {model['name']}"
    return " ".join(["the", *filter(None, (stream.get("kind"), stream["name"])), "stream"])


def _summary(run: Run, where: str) -> str:
    top, kind = best(run.records), run.config.get("dictionary", {}).get("name", "")
    metrics, count = top.metrics, len(run.records)
    names = dict.fromkeys(["n_latents", *varying(run.records)])
    told = label([(name, top.hparams[name]) for name in names if name in top.hparams])
    words = (
        (f"{count}", kind, "dictionaries were") if count > 1 else ("One", kind, "dictionary was")
    )
    made = " ".join(filter(None, words))
    return (
        f'<p class="lead">{html.escape(made)} trained on {tokens_trained(run)} tokens of'
        f" {html.escape(where)} ({top.hparams['d_in']:,} dimensions) and measured on"
        f" {metrics['n_tokens']:,.0f} tokens held out from training."
        f" {'The best of them' if count > 1 else 'It'}, <b>{html.escape(top.name)}</b>"
        f" ({html.escape(told)}), explains {shown(metrics['explained_variance'], '.1%')} of the"
        f" variance with {shown(metrics['l0'], '.1f')} latents active on a token."
        f"{_spliced(top)}</p>{_tiles(run, top)}"
    )


def _spliced(top: Record) -> str:
    """The loss of the language model with the reconstructions spliced in."""
    metrics = top.metrics
    if metrics.get("ce_score") is None:
        return ""
    return (
        " With its reconstructions in the place of the activations, the model predicts text at"
        f" {metrics['ce_spliced']:.2f} nats a token, against {metrics['ce_original']:.2f} untouched"
        f" and {metrics['ce_ablated']:.2f} with zeros there: a CE score of"
        f" {shown(metrics['ce_score'], '.1%')}."
    )


def _tiles(run: Run, top: Record) -> str:
    metrics, count = top.metrics, len(run.records)
    firing = f"never fired on {metrics['firing_tokens']:,.0f} tokens"
    tiles = [
        ("explained variance", shown(metrics["explained_variance"], ".1%"), "best dictionary"),
        ("L0", shown(metrics["l0"], ".1f"), "active latents a token"),
        ("CE score", shown(metrics.get("ce_score"), ".1%"), "of the loss recovered"),
        ("dead latents", shown(metrics["dead_fraction"], ".1%"), firing),
        ("dictionaries", f"{count}", f"settings: {len(settings(run.records))}"),
        ("trained on", tokens_trained(run), "tokens each"),
    ]
    return '<dl class="tiles">{}</dl>'.format(
        "".join(
            f'<div><dt>{title}</dt><dd>{value}</dd><dd class="note">{note}</dd></div>'
            for title, value, note in tiles
            if value != "–"
        )
    )


def _footer(run: Run) -> str:
    config = html.escape(json.dumps(run.config, indent=2))
    made = ", ".join(f"{html.escape(name)} {number}" for name, number in versions().items())
    workdir = html.escape(str(run.workdir))
    harvest = "dictlearn harvest --config=EXPERIMENT.py\n" if run.config.get("harvest") else ""
    fit = f"dictlearn fit     --workdir={workdir}\n" if run.scaling else ""
    return (
        f"<details><summary>Config of the run</summary><pre>{config}</pre></details>"
        "<h3>To reproduce</h3><p>EXPERIMENT.py is the file whose <code>get_config()</code> returns"
        " the config above; the repository keeps such files in <code>experiments/</code>.</p>"
        f"<pre>{harvest}dictlearn train   --config=EXPERIMENT.py --workdir={workdir}\n{fit}"
        f"dictlearn report  --workdir={workdir}</pre>"
        f'<p class="note">Page written with {made}.</p>'
    )
