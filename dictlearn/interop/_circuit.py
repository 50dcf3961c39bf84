"""Shared by circuit-tracer's formats: `config.yaml`, which names the hooks that the dictionaries read and
write, and the check that circuit-tracer can compute a dictionary."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dictlearn.interop import _foreign, _hooks
from dictlearn.runs.trained import Site, Trained

CONFIG = "config.yaml"
KINDS = ("relu", "jumprelu", "batch_topk")
_LINE = re.compile(r"(\w+): *(\"[^\"]*\"|'[^']*'|[^\"'#\s][^#]*?) *(#.*)?")


def told(folder: Path) -> dict[str, str]:
    """The keys of config.yaml whose text is on the same line; empty if the file is missing."""
    if not (folder / CONFIG).is_file():
        return {}
    path = _foreign.inside(folder, CONFIG)
    if path.stat().st_size > _foreign.MOST_JSON:
        raise ValueError(f"{CONFIG} has {path.stat().st_size} bytes.")
    lines = path.read_text("utf-8", errors="replace").splitlines()
    found = (_LINE.fullmatch(line) for line in lines)
    return {each[1]: each[2].strip("\"'") for each in found if each}


def sites(folder: Path, layers: Iterable[int]) -> tuple[Site, ...]:
    """The sites of transcoders of these layers."""
    config = told(folder)
    hooks = config.get("feature_input_hook"), config.get("feature_output_hook")
    if None in hooks:
        return ()
    taps = [tuple(_hooks.tap(f"blocks.{layer}.{hook}") for layer in layers) for hook in hooks]
    return (Site({"name": config.get("model_name")}, taps[0], taps[1], {}),)


def write(folder: Path, site: Site, kind: str) -> None:
    """Writes config.yaml for a dictionary of layers 0, 1, ..., if its model has a name and all layers read the
    same hook and write the same hook."""
    places = [_place(taps) for taps in (site.tap, site.target)]
    name = site.model.get("name")
    if None in places or not isinstance(name, str):
        return
    config = {"model_name": name, "model_kind": kind, "scan": name}
    config |= dict(zip(("feature_input_hook", "feature_output_hook"), places, strict=True))
    lines = (f"{key}: {json.dumps(value)}\n" for key, value in config.items())
    (folder / CONFIG).write_text("".join(lines), "utf-8")


def ordered(dictionaries: Sequence[Trained]) -> tuple[list[Trained], Site]:
    """The transcoders of a set by layer, and their sites as one. Raises ValueError where they are not one of
    each layer from 0 on, between the same places, and of one width."""
    by_layer = {_layer(one): one for one in dictionaries}
    layers = sorted(by_layer)
    if len(layers) != len(dictionaries) or layers != list(range(len(layers))):
        told = ", ".join(str(_layer(one)) for one in dictionaries)
        raise ValueError(f"a set has one transcoder of each layer from 0 on; these are of {told}.")
    whole = [by_layer[layer] for layer in layers]
    widths = sorted({one.module.n_latents for one in whole})
    if len(widths) > 1:
        raise ValueError(f"a set has transcoders of one width; these have {widths} latents.")
    first = whole[0].sites[0]
    taps = [tuple(one.sites[0]._asdict()[side][0] for one in whole) for side in ("tap", "target")]
    if None in map(_place, taps) or not isinstance(first.model.get("name"), str):
        raise ValueError(
            f"circuit-tracer has no hooks for {taps[0]} and {taps[1]} of a named model."
        )
    return whole, first._replace(tap=taps[0], target=taps[1])


def _layer(trained: Trained) -> int:
    """The layer of a transcoder. Raises ValueError where its site does not say one."""
    site = trained.sites[0] if len(trained.sites) == 1 else None
    taps = (*site.tap, *site.target) if site else ()
    found = [re.match(r"blocks\.(\d+)\.", _hooks.hook(tap)) for tap in taps]
    layers = {int(each[1]) for each in found if each}
    if len(found) != 2 or None in found or len(layers) != 1:
        raise ValueError(
            f"{trained.name} does not say its layer: it reads and writes {', '.join(taps) or 'nothing known'}."
        )
    return layers.pop()


def _place(taps: tuple[str, ...]) -> str | None:
    """The hook that the taps of layers 0, 1, ... share."""
    hooks = [_hooks.hook(tap) for tap in taps]
    found = {hook.removeprefix(f"blocks.{layer}.") for layer, hook in enumerate(hooks)}
    return found.pop() if len(found) == 1 and hooks[0].startswith("blocks.0.") else None


def check(trained: Trained, made: Mapping[str, Any], names: tuple[str, ...], width: int) -> None:
    """Raises ValueError for a dictionary of another kind, of another width, or that subtracts b_dec."""
    name, kind = made["name"], made.get("activation")
    if name not in names or kind not in KINDS:
        raise ValueError(
            f"circuit-tracer computes {', '.join(KINDS[:-1])} (and {KINDS[-1]} by its threshold), not "
            f"{name} with {kind}: to_jumprelu turns a trained TopK into one."
        )
    _foreign.check_raw(trained)
    if made["d_out"] not in (None, width):
        raise ValueError(f"circuit-tracer's {name} writes {width} columns, not {made['d_out']}.")
    if made["d_out"] is None and made["subtract_b_dec"]:
        raise ValueError(f"circuit-tracer subtracts nothing; this {name} subtracts b_dec.")
