"""`dictlearn circuit`: the attribution graph of a prompt, for circuit-tracer's viewer."""

import re
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dictlearn import interop
from dictlearn import lm as language
from dictlearn.cli.given import model
from dictlearn.runs.trained import Trained, restore

FLAGS = {
    "--prompt": {"required": True, "metavar": "TEXT", "help": "the text before the logits"},
    "--dictionaries": {
        "required": True,
        "metavar": "DIR[,DIR]",
        "help": "runs, or dictionaries of any format: transcoders of MLPs, or a cross-layer transcoder",
    },
    "--model": {
        "metavar": "NAME|PATH",
        "help": "the language model; default that of the dictionaries",
    },
    "--out": {
        "metavar": "DIR",
        "default": "circuits",
        "help": "the folder of graphs; default circuits",
    },
    "--slug": {"metavar": "NAME", "help": "the name of the graph; default from the prompt"},
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
    """Writes OUT/SLUG.json and OUT/SLUG.graph, and prints what the graph explains."""
    from dictlearn.circuits import attribute, graph, influence, viewer

    dictionaries = loaded(arguments.dictionaries)
    asked: dict[str, Any] = model(arguments.model or _told(dictionaries, arguments.dictionaries))
    lm = language.load(**asked)
    found = attribute.attribute(
        *(lm, dictionaries, arguments.prompt),
        chosen=arguments.targets.split(",") if arguments.targets else None,
        **{name: vars(arguments)[name] for name in ("n_logits", "mass", "most", "batch_size")},
    )
    slug = arguments.slug or _slug(arguments.prompt)
    thresholds = {name: vars(arguments)[name] for name in ("node_threshold", "edge_threshold")}
    path = viewer.write(found, arguments.out, slug, scan=arguments.scan, **thresholds)
    graph.save(found, path.with_suffix(".graph"))
    kept, scores = influence.prune(found, **thresholds), influence.scores(found)
    for one in found.logits:
        print(f"{one.weight:8.4f}  {one.text!r}")
    print(
        f"{len(found.values_N)} of {found.n_active} active latents; {kept.nodes_M.sum()} nodes and "
        f"{kept.edges_MM.sum()} edges kept; replacement {scores.replacement:.3f}, completeness "
        f"{scores.completeness:.3f}"
    )
    print(f"graph: {path}")


def loaded(paths: str) -> list[Trained]:
    """The dictionaries of runs, files and folders, with commas between them."""
    found: list[Trained] = []
    for path in map(Path, paths.split(",")):
        is_run = (path / "config.json").is_file() and (path / "checkpoints").is_dir()
        found += restore(path) if is_run else interop.load_all(path).values()
    return found


def _told(dictionaries: list[Trained], paths: str) -> str:
    """The model that the dictionaries name. Raises ValueError for none, and for several."""
    names = {str(site.model.get("name") or "") for one in dictionaries for site in one.sites}
    names.discard("")
    if len(names) != 1:
        raise ValueError(
            f"The dictionaries of {paths} name {len(names)} models, {sorted(names)}; give one by --model."
        )
    return names.pop()


def _slug(prompt: str) -> str:
    """A name of a file from the first words of a text."""
    return "-".join(re.findall(r"\w+", prompt.lower())[:8])[:60] or "prompt"
