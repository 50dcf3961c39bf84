"""What a step reads: the experiment's stream, opened as its config says, and batches placed on the mesh."""

import inspect
from collections.abc import Mapping

from dictlearn import dictionaries, learners, objectives, streams
from dictlearn import lm as language
from dictlearn.experiment.members import members
from dictlearn.streams import Process, Stream
from dictlearn.streams.from_lm import from_lm
from dictlearn.streams.sequences import sequences
from dictlearn.streams.store import store

ALIKE = {"store": store, "from_lm": from_lm, "sequences": sequences}
"""Streams of a language model's activations. What only another of them reads is left out, so that one
word of a config changes one into another; an objective that runs the model makes `from_lm` `sequences`."""


def open_stream(config: Mapping, share: Process | None = None) -> Stream:
    """The experiment's stream, its batches and seed as the top level says; `from_lm` with the model and
    the harvest of the config; both with all that `carried` says. share: which part of a batch to read;
    one for each process if None."""
    if "name" not in config.get("stream", {}):
        raise ValueError(f"config.stream.name is missing; there are {', '.join(streams.names())}.")
    filled = {"batch_size": config["batch_size"], "seed": config["seed"]}
    arguments, more = filled | dict(config["stream"]), carried(config)
    if "context" in more:
        if arguments["name"] != "from_lm":
            raise ValueError(
                f"config.objective runs the language model, and the stream {arguments['name']!r} has "
                "none; set stream.name to from_lm."
            )
        arguments["name"] = "sequences"
    if arguments["name"] in ALIKE:
        known = {name: set(inspect.signature(make).parameters) for name, make in ALIKE.items()}
        others = set.union(*known.values()) - known[arguments["name"]] - {"lm", "recipe"}
        arguments = {key: value for key, value in arguments.items() if key not in others}
    if arguments["name"] in ("from_lm", "sequences"):
        for name in ("model", "harvest"):
            if name not in config:
                raise ValueError(f"config.{name} is missing; the stream from_lm needs it.")
        arguments["lm"] = language.load(**config["model"])
        arguments["recipe"] = {"seed": config["seed"], **config["harvest"]}
    arguments |= dict.fromkeys(more - {"context"}, True)
    return streams.make(**arguments, process=share)


def carried(config: Mapping) -> set[str]:
    """What batches must carry beside x and y: "keys" for a learner, "gradients" for a dictionary,
    "context" for an objective."""
    found = set()
    for member in members(config):
        name = {key: part.static["name"] for key, part in member.parts.items()}
        wanted = {
            "keys": learners.reads_keys(name["learner"]),
            "gradients": dictionaries.variant(name["dictionary"]).reads_gradient,
            "context": name.get("objective") in objectives.RUNS_MODEL,
        }
        found |= {each for each, is_wanted in wanted.items() if is_wanted}
    return found


def target_width(stream: Stream) -> int | None:
    """d_out of a transcoder; None for an autoencoder, whose targets are its inputs."""
    first = stream.batch(0)
    return None if first.y_BD is first.x_BD else stream.d_out
