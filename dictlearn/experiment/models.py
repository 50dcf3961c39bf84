"""The language models of a config, and the model of each side of its stream.

`config.model` holds the arguments of `lm.load` for one model. `config.models` holds them for several models by
label, for rows of several concatenated models: `{"base": {"path": ...}, "chat": {"path": ...}}`. The model of a
side is the model from whose weights the side was harvested, identified by their sha256.
"""

import inspect
import logging
from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp

from dictlearn import lm as language
from dictlearn import meters
from dictlearn.lm import splice
from dictlearn.streams import Origin, Stream
from dictlearn.streams._fingerprint import differ
from dictlearn.types import Batch

SEQUENCES = 8
"""Sequences in one pass of the language model: an evaluation needs at least this number of held-out ones."""

FEWEST = 2
"""The fewest rows whose variance can be explained."""

_NEEDED = {"model": "the language model of the rows (config.model)", "truth": "planted atoms"}


class Side(NamedTuple):
    """A loaded model, and which of its activations are in the rows. label: the config's name for the model."""

    label: str
    lm: language.LM
    origin: Origin


class View(NamedTuple):
    """What a dictionary reads and writes together: taps of each side. label: its name among other views.
    scale: the scale of the rows, whose taps hold the raw activations."""

    label: str
    read: list[tuple[str, ...]]
    written: list[tuple[str, ...]]
    scale: float = 1.0

    def rows(self, found: Sequence[Mapping[str, jax.Array]], taps) -> jax.Array:
        """The rows `[B, D]` from the activations of each side; `taps` is `read` or `written`."""
        parts = [splice.side_by_side(*pair) for pair in zip(found, taps, strict=True)]
        rows_STD = jnp.concatenate(parts, axis=-1)
        return self.scale * rows_STD.reshape(-1, rows_STD.shape[-1])


def views(sides: Sequence[Side]) -> list[View]:
    """One view of all sides together, or one view of each tap where a row is from one of several taps."""
    if scales := sides[0].origin.scales:
        taps = zip(sides[0].origin.read, scales, strict=True)
        return [View(tap, [(tap,)], [(tap,)], scale) for tap, scale in taps]
    return [View("", [s.origin.read for s in sides], [s.origin.written for s in sides])]


def chosen(config: Mapping, stream: Stream | None, runs_model: bool) -> dict[str, Mapping]:
    """The meters of an evaluation: `config.meters`, or all meters that can be measured.

    Args:
        config: the config.
        stream: the stream of the rows; None if the rows come from the model.
        runs_model: whether the language model is evaluated.

    Returns:
        {meter: its settings}.

    Raises:
        ValueError: for a meter that cannot be measured, naming its need.
    """
    there = {None} | ({"model"} if runs_model else set())
    there |= {"truth"} if stream is not None and stream.truth is not None else set()
    given = config.get("meters") or {}
    for name in given:
        if (wanted := meters.needs(name)) and wanted not in there:
            raise ValueError(
                f"config.meters.{name} needs {_NEEDED[wanted]}, which the stream "
                f"{config['stream']['name']!r} of this config does not have."
            )
    return dict(given) or {name: {} for name in meters.names() if meters.needs(name) in there}


def arguments(config: Mapping) -> dict[str, Mapping]:
    """The arguments of `lm.load` of each model of a config, by label. Raises ValueError for an unknown
    argument."""
    one = config.get("model")
    found = dict(config.get("models") or ({one.get("name", "model"): one} if one else {}))
    known = inspect.signature(language.load).parameters
    for label, own in found.items():
        for key in own:
            if key not in known:
                raise ValueError(f"model {label!r} has no {key!r}; it takes {', '.join(known)}.")
    return found


def sides(
    origin: Sequence[Origin], loaded: Mapping[str, language.LM], allow_changed: bool = False
) -> list[Side]:
    """The model of each origin.

    Args:
        origin: the origins of the stream.
        loaded: the models of the config, by label.
        allow_changed: whether an origin whose weights no model has gets a model in the order of the config.

    Returns:
        One Side for each origin.

    Raises:
        ValueError: for an origin whose weights no model has.
    """
    labels = _labels(origin, {label: lm.source for label, lm in loaded.items()}, allow_changed)
    return [Side(label, loaded[label], one) for label, one in zip(labels, origin, strict=True)]


def check(config: Mapping, stream: Stream, allow_changed: bool = False) -> None:
    """Raises ValueError where dictionaries trained on `stream` could not be evaluated: nothing is held out,
    a model is missing, or it has other weights (unless they may have changed). Weights are only hashed, not
    loaded."""
    of = inspect.signature(language.identity).parameters
    where = lambda own: {key: own[key] for key in of if key in own}
    known = {label: language.identity(**where(own)) for label, own in arguments(config).items()}
    runs_model = stream.origin is not None and bool(known)
    chosen(config, None if runs_model else stream, runs_model)
    if stream.origin is None or not known:
        held_out_rows(config, stream)
    else:
        _labels(stream.origin, known, allow_changed)
        held_out_sequences(stream.origin)


def held_out_rows(config: Mapping, stream: Stream):
    """The held-out batches of the stream. Raises ValueError for a stream without any."""
    if not stream.held_out:
        wanted = "config.model (several: config.models)" if stream.origin else "stream.held_out"
        raise ValueError(
            f"the stream {config['stream']['name']!r} holds out no rows for evaluation; set {wanted}."
        )
    n = (len(stream.held_out) - 1) * config["batch_size"] + len(
        cast(Batch, stream.held_out[-1]).x_BD
    )
    if n < FEWEST:
        raise ValueError(
            f"the stream {config['stream']['name']!r} holds {n} rows out; an evaluation needs {FEWEST}. Raise "
            "stream.held_out, or give more rows."
        )
    return stream.held_out


def held_out_sequences(origin: Sequence[Origin]):
    """The packed held-out text, the same for all sides. Raises ValueError for less than one pass of it."""
    packed = origin[0].held_out()
    if len(packed.tokens_ST) < SEQUENCES:
        raise ValueError(
            f"the stream has {len(packed.tokens_ST)} held-out sequences; an evaluation needs {SEQUENCES}. "
            "Raise config.harvest.held_out, or give more text."
        )
    return packed


def _labels(
    origin: Sequence[Origin], known: Mapping[str, Mapping], allow_changed: bool
) -> list[str]:
    in_order = list(known) if allow_changed and len(known) == len(origin) else [""] * len(origin)
    return [_label(side, known, other) for side, other in zip(origin, in_order, strict=True)]


def _label(side: Origin, known: Mapping[str, Mapping], other: str) -> str:
    """The model that has the weights of a side; `other`, unless it is empty, where none has."""
    same = [label for label, source in known.items() if not list(differ(side.model, source))]
    if same:
        return same[0]
    rows = f"{side.model.get('name')} ({side.model.get('file')})"
    if not other:
        listed = ", ".join(f"{label} ({source['file']})" for label, source in known.items())
        raise ValueError(
            f"rows were harvested from {rows}, but no model of the config has these weights; it has "
            f"{listed}. Harvest into another folder, give that model, or --allow_changed to use these."
        )
    changed = "; ".join(differ(side.model, known[other]))
    warning = "rows were harvested from %s, and %s takes its place: %s."
    logging.getLogger("dictlearn").warning(warning, rows, other, changed)
    return other
