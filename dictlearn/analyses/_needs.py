"""Requirements of an analysis on the run whose config lists it. They are checked before the run is trained."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from dictlearn import experiment, streams
from dictlearn.experiment.stream import origin
from dictlearn.streams import Stream


class Need(NamedTuple):
    """met: whether a config and its stream meet it. told: its description, and how to meet it."""

    met: Callable[[Mapping, Stream], bool]
    told: str


NEEDS = {
    "model": Need(lambda config, stream: bool(config.get("model")), "a language model; set model"),
    "origin": Need(
        lambda config, stream: bool(origin(config)),
        "activations of a language model; set stream.name to store or from_lm",
    ),
    "transcoders": Need(
        lambda config, stream: bool(config["stream"].get("target")),
        "transcoders; set stream.target",
    ),
    "store": Need(
        lambda config, stream: streams.from_harvest(config["stream"]["name"]),
        "a store of activations; set stream.name to store",
    ),
    "array": Need(
        lambda config, stream: str(config["stream"].get("path", "")).endswith(".npy"),
        "an array; set stream.name to npy",
    ),
    "labels": Need(
        lambda config, stream: (
            bool(config.get("model") and origin(config))
            or str(config["stream"].get("path", "")).endswith(".npy")
        ),
        "labelled rows: texts for a language model, or an array with labels; set model, or stream.name to npy",
    ),
    "truth": Need(
        lambda config, stream: stream.truth is not None,
        "planted atoms; set stream.name to synthetic",
    ),
    "dictionaries": Need(
        lambda config, stream: len(experiment.members(config)) > 1,
        "two dictionaries or more; set sweep",
    ),
    "seeds": Need(
        lambda config, stream: len({one.hparams["seed"] for one in experiment.members(config)}) > 1,
        "two seeds or more; set sweep.seed",
    ),
    "runs": Need(
        lambda config, stream: False, "two runs; `dictlearn analyse NAME RUN RUN` takes them"
    ),
}
"""The needs, by the words that an analysis lists in its NEEDS."""


def refuse(name: str, needs: tuple[str, ...], config: Mapping, stream: Stream) -> None:
    """Raises ValueError for the first need of an analysis that a run does not meet."""
    for need in (NEEDS[word] for word in needs):
        if not need.met(config, stream):
            raise ValueError(
                f"config.analyses.{name} needs {need.told}, or leave the analysis out."
            )
