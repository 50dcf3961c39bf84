"""Converts TransformerLens' hook names, which other libraries write, to taps (lm/taps.py) and back."""

import re
from typing import Any

from dictlearn.runs.trained import Site

_OURS = {
    "hook_resid_post": "resid",
    "hook_resid_mid": "resid_mid",
    "mlp.hook_in": "mlp_in",
    "hook_mlp_out": "mlp_out",
    "hook_attn_out": "attn_out",
    "attn.hook_z": "attn_z",
}
_THEIRS = {ours: theirs for theirs, ours in _OURS.items()}


def tap(hook: str) -> str:
    """The tap of a hook; the hook itself if no tap has the same activation.

    Example:
        >>> tap("blocks.8.hook_resid_pre"), tap("blocks.8.hook_mlp_out"), tap("vision.hook_x")
        ('resid.7', 'mlp_out.8', 'vision.hook_x')
    """
    found = re.fullmatch(r"blocks\.(\d+)\.([\w.]+)", hook)
    if found is None:
        return hook
    layer, place = int(found[1]), found[2]
    if place == "hook_resid_pre":
        return f"resid.{layer - 1}" if layer else "embed"
    return f"{_OURS[place]}.{layer}" if place in _OURS else hook


def sites(read: Any, written: Any) -> tuple[Site, ...]:
    """The site of these hooks; () if either is not text."""
    if not isinstance(read, str) or not isinstance(written, str):
        return ()
    return (Site({}, (tap(read),), (tap(written),), {}),)


def hook(tap: str) -> str:
    """The hook of a tap; the tap itself if TransformerLens has no hook with the same activation.

    Example:
        >>> hook("resid.7"), hook("mlp_act.2")
        ('blocks.7.hook_resid_post', 'mlp_act.2')
    """
    place, _, layer = tap.partition(".")
    if place == "embed":
        return "blocks.0.hook_resid_pre"
    return f"blocks.{layer}.{_THEIRS[place]}" if place in _THEIRS else tap
