"""Taps: the named places of a transformer where activations are read and edited.

`embed`; for each layer L `attn_in.L`, `attn_z.L`, `attn_out.L`, `resid_mid.L`, `mlp_in.L`,
`mlp_act.L`, `mlp_out.L`, `resid.L`; and `final`. The forward passes define the content and the width of
each (`decoder.forward`, `bert.forward`).
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
    """The hyperparameters of a model with layers; its taps depend only on their number."""

    @property
    def n_layers(self) -> int: ...


def tap_names(spec: Layered) -> list[str]:
    """The names of all taps of a model.

    Args:
        spec: the hyperparameters of the model.

    Returns:
        The names in the order of the forward pass.

    Example:
        >>> from dictlearn.lm.bert import BertSpec
        >>> spec = BertSpec(n_layers=1, d_model=4, n_heads=1, d_mlp=8, vocab=5, n_positions=8)
        >>> tap_names(spec)[:3], tap_names(spec)[-2:]
        (['embed', 'attn_in.0', 'attn_z.0'], ['resid.0', 'final'])
    """
    blocks = [f"{tap}.{layer}" for layer in range(spec.n_layers) for tap in _BLOCK_TAPS]
    return ["embed", *blocks, "final"]


def _unknown(spec: Layered, names: Iterable[str]) -> ValueError:
    known = ", ".join(f"{tap}.0..{spec.n_layers - 1}" for tap in _BLOCK_TAPS)
    listed = ", ".join(map(repr, names))
    return ValueError(f"Unknown tap {listed}; known: embed, {known}, final.")


def check_taps(spec: Layered, names: Iterable[str]) -> None:
    """Checks that a model has these taps.

    Args:
        spec: the hyperparameters of the model.
        names: names of taps.

    Raises:
        ValueError: for an unknown name; the message lists the taps.

    Example:
        >>> from dictlearn.lm.bert import BertSpec
        >>> spec = BertSpec(n_layers=1, d_model=4, n_heads=1, d_mlp=8, vocab=5, n_positions=8)
        >>> check_taps(spec, ["resid.0"])
    """
    if unknown := sorted(set(names) - set(tap_names(spec))):
        raise _unknown(spec, unknown)


def _choices(pattern: str) -> list[str]:
    """`a.{1,2}` as [`a.1`, `a.2`], for any number of braces, none inside another."""
    parts = _CHOICE.split(pattern)
    options = [part.split(",") if i % 2 else [part] for i, part in enumerate(parts)]
    return ["".join(choice) for choice in itertools.product(*options)]


def expand_taps(spec: Layered, patterns: str | Sequence[str]) -> list[str]:
    """Expands patterns to the taps that they match: 'resid.9', 'resid.{4,8,12}', 'mlp_{in,out}.3', 'resid.*'.

    Args:
        spec: the hyperparameters of the model.
        patterns: one pattern or several. Braces list choices; `*` matches anything but a dot.

    Returns:
        The taps, each once: pattern by pattern, each in the order of the forward pass.

    Raises:
        ValueError: for a pattern or a choice that matches no tap; the message lists the taps.

    Example:
        >>> from dictlearn.lm.bert import BertSpec
        >>> spec = BertSpec(n_layers=4, d_model=4, n_heads=1, d_mlp=8, vocab=5, n_positions=8)
        >>> expand_taps(spec, ["mlp_{in,out}.3", "resid.{0,2}"])
        ['mlp_in.3', 'mlp_out.3', 'resid.0', 'resid.2']
    """
    return _expand(tap_names(spec), patterns, lambda choice: _unknown(spec, [choice]))


def match_taps(taps: Sequence[str], patterns: str | Sequence[str], none: str) -> list[str]:
    """Expands patterns as `expand_taps` does, among given taps.

    Args:
        taps: the taps to choose from.
        patterns: one pattern or several.
        none: the beginning of the error message, before the pattern.

    Returns:
        The matching taps in the order of `taps`, each once.

    Raises:
        ValueError: for a pattern or a choice that matches no tap; the message lists `taps`.

    Example:
        >>> match_taps(["resid.3", "resid.6", "mlp_out.3"], "resid.*", "no such tap:")
        ['resid.3', 'resid.6']
    """
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
    """The taps that the forward pass has computed so far, read-only. Any other name raises ValueError."""

    def __init__(self, at: str, taps: Mapping[str, Any]):
        self._at, self._taps = at, taps

    def __getitem__(self, name: str) -> Any:
        if name not in self._taps:
            raise ValueError(
                f"The edit at {self._at!r} reads {name!r}, which the forward pass has not reached; it has "
                f"passed {', '.join(self._taps)}."
            )
        return self._taps[name]

    def __iter__(self):
        return iter(self._taps)

    def __len__(self) -> int:
        return len(self._taps)


def tapper(edits: Mapping[str, Edit], mask_BT: Any, taps: dict[str, Any]) -> Callable:
    """Makes the function that a forward pass calls at each tap.

    Args:
        edits: the edits, by tap.
        mask_BT: True where a token is data; handed to the edits.
        taps: the dict that receives the activation of each tap, after its edit.

    Returns:
        A function of (name, activation) that returns the activation, edited if `edits` has the name.
    """

    def tap(name: str, activation: Any) -> Any:
        taps[name] = activation
        if name in edits:
            edited = edits[name](activation, mask_BT, _Passed(name, taps))
            if edited.shape != activation.shape:
                raise ValueError(f"Edit at {name!r}: {activation.shape} became {edited.shape}.")
            taps[name] = edited.astype(activation.dtype)
        return taps[name]

    return tap
