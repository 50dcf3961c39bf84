"""The configured stream of an experiment: opening it, the fields of its batches, and its origin."""

from collections.abc import Mapping
from typing import Any

from dictlearn import dictionaries, learners, objectives, streams
from dictlearn import lm as language
from dictlearn.experiment.members import members
from dictlearn.streams import Origin, Process, Stream


def open_stream(config: Mapping, share: Process | None = None) -> Stream:
    """Opens the stream of a config, with the batch size and the seed of the top level and the fields of
    `carried`.

    A stream that runs the model also gets the model and the harvest of the config.

    Args:
        config: the config.
        share: (index, count) of the part of a batch to read; None for one part for each process.

    Returns:
        A Stream.

    Raises:
        ValueError: for an objective that runs the model, on a stream without one.
    """
    more = carried(config)
    arguments: dict[str, Any] = _arguments(config, None)
    if "context" in more and "context" not in streams.parameters(arguments["name"]):
        raise ValueError(
            f"config.objective runs the language model, but the stream {arguments['name']!r} has "
            f"none; set stream.name to {', '.join(filter(streams.runs_model, streams.names()))}."
        )
    arguments |= dict.fromkeys(more, True)
    return streams.make(**arguments, process=share)


def origin(config: Mapping, lm: language.LM | None = None) -> tuple[Origin, ...] | None:
    """The origin of the experiment's stream, without opening it. lm: the config's model, if it is already
    loaded."""
    return streams.origin(**_arguments(config, lm))


def _arguments(config: Mapping, lm: language.LM | None) -> dict[str, Any]:
    if "name" not in config.get("stream", {}):
        raise ValueError(
            f"config.stream.name is missing; the streams are {', '.join(streams.names())}."
        )
    arguments = {"batch_size": config["batch_size"], "seed": config["seed"], **config["stream"]}
    if streams.runs_model(arguments["name"]):
        for name in ("model", "harvest"):
            if name not in config:
                raise ValueError(
                    f"config.{name} is missing; the stream {arguments['name']} needs it."
                )
        arguments["lm"] = lm or language.load(**config["model"])
        arguments["recipe"] = {"seed": config["seed"], **config["harvest"]}
    return arguments


def carried(config: Mapping) -> set[str]:
    """The fields of batches besides x and y: "keys" for a learner, "gradients" for a dictionary, "context"
    for an objective."""
    found = set()
    for member in members(config):
        name = {key: part.static["name"] for key, part in member.parts.items()}
        wanted = {
            "keys": learners.reads_keys(name["learner"]),
            "gradients": dictionaries.variant(name["dictionary"]).reads_gradient,
            "context": objectives.runs_model(name.get("objective", "")),
        }
        found |= {each for each, is_wanted in wanted.items() if is_wanted}
    return found


def target_width(stream: Stream) -> int | None:
    """d_out of a transcoder; None for an autoencoder, whose targets are its inputs."""
    first = stream.batch(0)
    return None if first.y_BD is first.x_BD else stream.d_out
