"""`dictlearn circuit`: the attribution graphs of prompts, as a page and for circuit-tracer's viewer."""

import re
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dictlearn import interop
from dictlearn import lm as language
from dictlearn.circuits.influence import Pruned, prune, scores
from dictlearn.cli.given import model
from dictlearn.runs.by_layer import by_layer
from dictlearn.runs.trained import Trained, restore

FLAGS = {
    "--prompt": {
        "required": True,
        "action": "append",
        "metavar": "TEXT",
        "help": "the text before the logits; given several times, the page compares the graphs",
    },
    "--dictionaries": {
        "required": True,
        "metavar": "DIR[,DIR]",
        "help": "runs, or dictionaries of any format: transcoders of MLPs, or a cross-layer transcoder",
    },
    "--model": {
        "metavar": "NAME|PATH",
        "help": "the language model; default that of the dictionaries",
    },
    "--workdirs": {
        "metavar": "DIR[,DIR]",
        "help": "the folders with explanations/ and events/ of the dictionaries, one for all or one for each "
        "path; default the paths themselves",
    },
    "--out": {
        "metavar": "DIR",
        "default": "circuits",
        "help": "the folder of graphs; default circuits",
    },
    "--slug": {"metavar": "NAME", "help": "the name of the page; default from the prompt"},
    "--scan": {"metavar": "NAME", "default": "", "help": "where the viewer looks for features"},
    "--targets": {
        "metavar": "TOKEN[,TOKEN]",
        "help": "target tokens, as texts; default the likeliest next tokens",
    },
    "--n_logits": {"type": int, "default": 10, "metavar": "N", "help": "the most likely tokens"},
    "--mass": {"type": float, "default": 0.95, "help": "the probability that they should have"},
    "--most": {"type": int, "default": 7500, "metavar": "N", "help": "the most latents as nodes"},
    "--batch_size": {"type": int, "default": 256, "metavar": "N", "help": "rows of one pass"},
    "--node_threshold": {"type": float, "default": 0.8, "help": "the influence that nodes keep"},
    "--edge_threshold": {"type": float, "default": 0.98, "help": "the influence that edges keep"},
}


def circuit(config: Mapping, workdir: Path, arguments: Namespace) -> None:
    """Writes OUT/SLUG.json and OUT/SLUG.graph of each prompt and a page of all, and says what they explain."""
    from dictlearn import sharding
    from dictlearn.circuits import attribute
    from dictlearn.report import graphs as pages

    paths = arguments.dictionaries.split(",")
    folders, sets = _folders(arguments.workdirs, paths), [loaded(path) for path in paths]
    dictionaries = [one for own in sets for one in own]
    asked: dict[str, Any] = model(arguments.model or _told(dictionaries, arguments.dictionaries))
    lm = language.load(**asked)
    options = {name: vars(arguments)[name] for name in ("n_logits", "mass", "most", "batch_size")}
    chosen = arguments.targets.split(",") if arguments.targets else None
    thresholds = arguments.node_threshold, arguments.edge_threshold
    graphs = {}
    for slug, prompt in _slugs(arguments.prompt, arguments.slug).items():
        found = attribute.attribute(
            lm, dictionaries, prompt, chosen=chosen, mesh=sharding.mesh(), **options
        )
        graphs[slug] = prune(found, *thresholds)
    of_each = [path for path, own in zip(folders, sets, strict=True) for _ in own]
    about = pages.known(lm, dictionaries, pages.latents(list(graphs.values())), of_each)
    labels = {latent: one["label"] for latent, one in about.items() if "label" in one}
    for slug, kept in graphs.items():
        _written(kept, arguments, slug, labels)
    page = Path(arguments.out) / f"{arguments.slug or next(iter(graphs))}.html"
    print(f"page: {pages.write(graphs, page, about)}")


def _written(kept: Pruned, arguments: Namespace, slug: str, labels: Mapping) -> None:
    """Writes the files of a pruned graph, and prints what it explains."""
    from dictlearn.circuits import graph, viewer

    path = viewer.write(kept, arguments.out, slug, scan=arguments.scan, labels=labels)
    found, score = kept.graph, scores(kept.graph)
    graph.save(found, path.with_suffix(".graph"))
    for one in found.logits:
        print(f"{one.weight:8.4f}  {one.text!r}")
    print(
        f"{len(found.values_N)} of {found.n_active} active latents; {kept.nodes_M.sum()} nodes and "
        f"{kept.edges_MM.sum()} edges kept; replacement {score.replacement:.3f}, completeness "
        f"{score.completeness:.3f}"
    )
    print(f"graph: {path}")


def loaded(path: str) -> list[Trained]:
    """The dictionaries of a run, a file or a folder; of a set, those of its layers."""
    own = Path(path)
    is_run = (own / "config.json").is_file() and (own / "checkpoints").is_dir()
    found = restore(own) if is_run else interop.load_all(own).values()
    return [layer for one in found for layer in by_layer(one)]


def _folders(given: str | None, paths: list[str]) -> list[Path]:
    """The folder with what is known of the dictionaries of each path."""
    folders = list(map(Path, given.split(",") if given else paths))
    if len(folders) not in (1, len(paths)):
        raise ValueError(
            f"--workdirs has {len(folders)} folders for {len(paths)} paths of dictionaries; give one for "
            "each, or one for all."
        )
    return folders if len(folders) == len(paths) else folders * len(paths)


def _told(dictionaries: list[Trained], paths: str) -> str:
    """The model that the dictionaries name. Raises ValueError for none, and for several."""
    names = {str(site.model.get("name") or "") for one in dictionaries for site in one.sites}
    names.discard("")
    if len(names) != 1:
        raise ValueError(
            f"The dictionaries of {paths} name {len(names)} models, {sorted(names)}; give one by --model."
        )
    return names.pop()


def _slugs(prompts: list[str], given: str | None) -> dict[str, str]:
    """{the name of its files: prompt}, in order. A given name is that of a single prompt."""
    if len(prompts) == 1:
        return {given or _slug(prompts[0]): prompts[0]}
    found: dict[str, str] = {}
    for prompt in prompts:
        slug = name = _slug(prompt)
        number = 1
        while name in found:
            number += 1
            name = f"{slug}-{number}"
        found[name] = prompt
    return found


def _slug(prompt: str) -> str:
    """A name of a file from the first words of a text."""
    return "-".join(re.findall(r"\w+", prompt.lower())[:8])[:60] or "prompt"
