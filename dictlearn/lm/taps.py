"""Taps: the named places of a transformer, where activations are read and edited.

`embed`; for each layer L `attn_in.L`, `attn_z.L`, `attn_out.L`, `resid_mid.L`, `mlp_in.L`,
`mlp_act.L`, `mlp_out.L`, `resid.L`; and `final`. What each holds, and its width, is said by the
forward pass that has it (`decoder.forward`, `bert.forward`).
"""

import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from dictlearn.lm.edits import Edit

_ATTENTION_TAPS = ("attn_in", "attn_z", "attn_out", "resid_mid")
_BLOCK_TAPS = (*_ATTENTION_TAPS, "mlp_in", "mlp_act", "mlp_out", "resid")
_CHOICE = re.compile(r"\{([^{}]*)\}")


@runtime_checkable
class Layered(Protocol):
    """The hyperparameters of a model: all that its taps depend on is how many layers it has."""

    @property
    def n_layers(self) -> int: ...


def tap_names(spec: Layered) -> list[str]:
    """Every tap, in the order in which the forward pass comes to it."""
    blocks = [f"{tap}.{layer}" for layer in range(spec.n_layers) for tap in _BLOCK_TAPS]
    return ["embed", *blocks, "final"]


def _unknown(spec: Layered, names: Iterable[str]) -> ValueError:
    known = ", ".join(f"{tap}.0..{spec.n_layers - 1}" for tap in _BLOCK_TAPS)
    listed = ", ".join(map(repr, names))
    return ValueError(f"Unknown tap {listed}; known: embed, {known}, final.")


def check_taps(spec: Layered, names: Iterable[str]) -> None:
    """Raises ValueError, listing the taps there are, if any of `names` is not one."""
    if unknown := sorted(set(names) - set(tap_names(spec))):
        raise _unknown(spec, unknown)


def _choices(pattern: str) -> list[str]:
    """`a.{1,2}` as [`a.1`, `a.2`], for any number of braces, none inside another."""
    parts = _CHOICE.split(pattern)
    options = [part.split(",") if i % 2 else [part] for i, part in enumerate(parts)]
    return ["".join(choice) for choice in itertools.product(*options)]


def expand_taps(spec: Layered, patterns: str | Sequence[str]) -> list[str]:
    """The taps that patterns name: 'resid.9', 'resid.{4,8,12}', 'mlp_{in,out}.3', 'resid.*'.

    Braces list choices; `*` stands for anything but a dot. One string is one pattern. The result
    takes the patterns in turn, each in the order of the forward pass, and names no tap twice.
    Raises ValueError, listing the taps there are, for a pattern or a choice that names none."""
    return _expand(tap_names(spec), patterns, lambda choice: _unknown(spec, [choice]))


def match_taps(taps: Sequence[str], patterns: str | Sequence[str], none: str) -> list[str]:
    """The same among given taps, in their order; the ValueError begins with `none` and the pattern."""
    listed = list(taps)
    return _expand(listed, patterns, lambda one: ValueError(f"{none} {one!r}; it has {listed}."))


def _expand(taps: Sequence[str], patterns: str | Sequence[str], error: Callable) -> list[str]:
    found = {}
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        named = set()
        for choice in _choices(pattern):
            like = re.compile(re.escape(choice).replace(r"\*", "[^.]*"))
            matched = {tap for tap in taps if like.fullmatch(tap)}
            if not matched:
                raise error(choice)
            named |= matched
        found |= dict.fromkeys(tap for tap in taps if tap in named)
    return list(found)


class _Passed(Mapping):
    """The taps that a forward pass has come to, read-only. Raises ValueError, naming it, for any other."""

    def __init__(self, at: str, taps: Mapping[str, Any]):
        self._at, self._taps = at, taps

    def __getitem__(self, name: str) -> Any:
        if name not in self._taps:
            raise ValueError(
                f"The edit at {self._at!r} reads {name!r}, which the forward pass has not come to; it has "
                f"passed {', '.join(self._taps)}."
            )
        return self._taps[name]

    def __iter__(self):
        return iter(self._taps)

    def __len__(self) -> int:
        return len(self._taps)


def tapper(edits: Mapping[str, Edit], mask_BT: Any, taps: dict[str, Any]) -> Callable:
    """(name, activation) -> the activation, edited where an edit has that name, noted in `taps`."""

    def tap(name: str, activation: Any) -> Any:
        taps[name] = activation
        if name in edits:
            edited = edits[name](activation, mask_BT, _Passed(name, taps))
            if edited.shape != activation.shape:
                raise ValueError(f"Edit at {name!r}: {activation.shape} became {edited.shape}.")
            taps[name] = edited.astype(activation.dtype)
        return taps[name]

    return tap
