"""The card of a release: what the dictionaries are, where they read, how good they are, how to load them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from dictlearn import dictionaries, interop, meters
from dictlearn.lm.hub import is_hub_name
from dictlearn.runs.trained import Trained

CURVE = "explained_variance"


class Written(NamedTuple):
    """A dictionary in the release: its format, and its path in the folder."""

    format: str
    path: str


def text(
    name: str,
    written: Sequence[tuple[Trained, Written]],
    config: Mapping[str, Any] | None,
    curves: bool,
) -> str:
    """The README.md of a release.

    Args:
        name: the repository, "owner/name".
        written: the dictionaries, and where they are.
        config: the run's config, None where there is no run.
        curves: whether the release holds curves.png.

    Returns:
        Markdown, with the hub's metadata before it.
    """
    parts = [
        _front(written),
        f"# {name.partition('/')[2]}",
        _about(written),
        _loading(name, written),
    ]
    parts.append(_metrics(written))
    if curves:
        parts.append(
            "## Training\n\n![Explained variance of training batches, against tokens](curves.png)"
        )
    if config is not None:
        shown = json.dumps(config, indent=2)
        parts.append(f"## Config\n\nThe whole config is in `config.json`.\n\n```json\n{shown}\n```")
    return "\n\n".join(parts) + "\n"


def curves(found: Sequence[Trained], lines: Sequence[Mapping[str, Any]], path: Path) -> bool:
    """Draws the explained variance of training batches against tokens, a line for each dictionary.

    Args:
        found: the dictionaries.
        lines: the lines of the run's log.
        path: the picture to write.

    Returns:
        Whether there was anything to draw.
    """
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    for each in found:
        points = [
            (line["tokens"], line[each.name][CURVE])
            for line in lines
            if line.get(each.name, {}).get(CURVE) is not None
        ]
        if points:
            axes.plot(*zip(*points, strict=True), label=each.name, linewidth=1)
    if not axes.lines:
        return False
    axes.set(xlabel="tokens", ylabel="explained variance")
    if len(axes.lines) <= 12:
        axes.legend(fontsize=7)
    figure.savefig(path, dpi=120)
    return True


def _front(written: Sequence[tuple[Trained, Written]]) -> str:
    """The hub's metadata. It names another library for loading only if that library reads all dictionaries."""
    (library, *more) = {_title(where) for _, where in written}
    models = {str(site.model.get("name")) for each, _ in written for site in each.sites}
    lines = [
        f"library_name: {'dictlearn' if more else library.lower()}",
        "tags: [sparse-autoencoder, dictionary-learning, interpretability, dictlearn]",
    ]
    if based := sorted(model for model in models if is_hub_name(model)):
        lines.append(f"base_model: {json.dumps(based)}")
    return "\n".join(("---", *lines, "---"))


def _title(where: Written) -> str:
    """The library that loads a dictionary: another one, or this one."""
    return (interop.library(where.format) or ("dictlearn", ""))[0]


def _about(written: Sequence[tuple[Trained, Written]]) -> str:
    kinds = sorted({_kind(each) for each, _ in written})
    what = "One dictionary" if len(written) == 1 else f"{len(written)} dictionaries"
    lines = [f"{what}, trained with dictlearn: {', '.join(kinds)}."]
    for site in dict.fromkeys(_site(site) for each, _ in written for site in each.sites):
        lines.append(f"- {site}")
    if len(lines) == 1:
        lines.append("\nThe files do not say on which model they were trained.")
    return "\n".join((lines[0], "", *lines[1:]))


def _kind(trained: Trained) -> str:
    made = dictionaries.describe(trained.module)
    activation = made.get("activation")
    return (
        made["name"] if activation in (None, made["name"]) else f"{made['name']} with {activation}"
    )


def _site(site) -> str:
    read, written = ", ".join(site.tap), ", ".join(site.target)
    taps = f"`{read}`" if read == written else f"`{read}` to `{written}`"
    on = site.text.get("name")
    return f"{taps} of {site.model.get('name')}" + (f", on {on}" if on else "")


def _loading(name: str, written: Sequence[tuple[Trained, Written]]) -> str:
    first = written[0][1].path
    code = f'import dictlearn\n\nsae = dictlearn.load("{name}/{first}")\n'
    code += f"codes = sae.encode(x)  # raw activations, [B, {written[0][0].module.d_in}]"
    parts = [f"## Load\n\n```python\n{code}\n```"]
    for format in dict.fromkeys(where.format for _, where in written):
        there = [where.path for _, where in written if where.format == format]
        if told := interop.library(format):
            code = told[1].format(repo=name, path=there[0])
            parts.append(f"In {told[0]}:\n\n```python\n{code}\n```")
        else:
            paths = ", ".join(f"`{path}`" for path in there)
            parts.append(f"{paths}: for dictlearn only, in its format {format}.")
    return "\n\n".join(parts)


def _metrics(written: Sequence[tuple[Trained, Written]]) -> str:
    """A table: a row for each dictionary, a column for each summary value that any of them has."""
    columns = [
        c for c in meters.headlines() if any(c.metric in each.metrics for each, _ in written)
    ]
    rows = [["dictionary", "kind", "latents", *(column.title for column in columns)]]
    rows.append(["---", "---", *["---:"] * (len(columns) + 1)])
    for each, where in written:
        values = [_shown(each.metrics.get(column.metric), column.form) for column in columns]
        rows.append([f"`{where.path}`", _kind(each), f"{each.module.n_latents:,}", *values])
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    measured = next((each.metrics for each, _ in written if each.metrics), {})
    notes = " ".join(meters.notes(measured))
    if not columns:
        notes = "They have not been evaluated; `dictlearn eval` measures them."
    return f"## Dictionaries\n\n{table}\n\n{notes}".rstrip()


def _shown(value: Any, form: str) -> str:
    return "" if value is None else format(value, form)
