"""An experiment's config from the command line: a file, its argument, and overridden keys."""

import importlib.util
import re
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from absl import flags
from ml_collections import ConfigDict, config_flags

from dictlearn import analyses, experiment, interop, meters, sharding, streams
from dictlearn import lm as language
from dictlearn.cli import published
from dictlearn.cli.given import keys, model, winning
from dictlearn.evaluate import measure
from dictlearn.experiment import grid, values
from dictlearn.runs.places import read_config
from dictlearn.streams._source import Recipe
from dictlearn.train import changes

READS = {"evaluate": measure, "model": language.load, "harvest": Recipe, "mesh": sharding.mesh}
"""The callables whose arguments are these subtrees."""


def read(file: Path, arg: str, rest: Sequence[str]) -> dict:
    """`get_config(arg)` of a file, with `--config.KEY=VALUE` applied by ml_collections, and checked.

    Args:
        file: the file of the experiment.
        arg: the text after the colon of `--config=FILE:ARG`; "" for none.
        rest: the words of the command line that set keys.

    Returns:
        The config as nested dicts. Exits with status 2 for words that do not set a key.

    Raises:
        ValueError: for a file that is not an experiment, and for unknown keys.
    """
    config = _experiment(file, arg)
    for name in set(experiment.SUBTREES) - set(config):
        config[name] = ConfigDict()
    for name in set(experiment.SWEPT) - set(config.sweep):
        config.sweep[name] = ConfigDict()
    found, chosen = _with_keys(config, rest)
    found["sweep"] = _filled(found["sweep"])
    found = _filled(winning(_filled(found), chosen))
    experiment.check(found, READS)
    analyses.check(found.get("analyses", {}))
    meters.check(found.get("meters", {}))
    return found


def _with_keys(config: ConfigDict, rest: Sequence[str]) -> tuple[dict, Sequence[str]]:
    """The config with the keys that the words of the command line set, and these keys."""
    given = flags.FlagValues()
    words = ["dictlearn", *_long(rest)]
    chosen = keys(words)
    for key in chosen:
        _grow(config, key.split(".")[:-1])
    try:
        config_flags.DEFINE_config_dict(
            "config",
            config,
            flag_values=given,
            sys_argv=words,
            lock_config=False,
            accept_new_attributes=True,
        )
        unread = given(words)[1:]
    except flags.Error as error:
        raise ValueError(str(error)) from error
    except (LookupError, ValueError, TypeError, SyntaxError, AttributeError) as error:
        said = " and ".join(f"--config.{key}" for key in chosen)
        raise ValueError(f"{said} cannot be set: {error}") from error
    if unread:
        misuse(f"unknown argument {unread[0]!r}; keys of the config are --config.KEY=VALUE.")
    return values.settled(config), chosen


def _experiment(file: Path, arg: str) -> Any:
    """`get_config(arg)` of a file. Raises ValueError, naming the file, for any error in it."""
    spec = importlib.util.spec_from_file_location("experiment", file)
    if spec is None or spec.loader is None:
        raise ValueError(f"{file} is not a Python file; --config names an experiment's file.")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        config = module.get_config(arg) if arg else module.get_config()
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        raise ValueError(
            f"get_config of {file} failed ({said}); --debug shows where."
            if "get_config" in vars(module)
            else f"{file} is not an experiment, with a get_config(arg) that returns a ConfigDict ({said})."
        ) from error
    if not isinstance(config, ConfigDict):
        raise ValueError(f"get_config of {file} gives {config!r}; it must give a ConfigDict.")
    return config


def _filled(tree: dict) -> dict:
    """A tree without its empty subtrees."""
    return {name: value for name, value in tree.items() if value != {}}


def _grow(config: ConfigDict, path: Sequence[str]) -> None:
    """Creates the missing subtrees on a path; they are checked when they have values."""
    for name in path:
        if name not in config:
            config[name] = ConfigDict()
        inner = config[name]
        if not isinstance(inner, ConfigDict):
            return
        config = inner


def resolve(arguments: Namespace, rest: Sequence[str], from_workdir: bool) -> tuple[dict, Path]:
    """The config and the workdir of a command.

    Args:
        arguments: the parsed arguments.
        rest: the words that the parser does not know.
        from_workdir: whether the config may be the one in the workdir.

    Returns:
        (the config as nested dicts, the workdir). A verb that reads no config has neither.
    """
    if "config" not in arguments:
        if rest:
            misuse(f"unknown argument {rest[0]!r}; {arguments.verb} reads no config.")
        return {}, Path()
    if "words" in arguments:
        rest = _analysed(arguments, rest)
        if len(arguments.words) > 1:
            return {}, _result_folder(arguments, arguments.words[1:])
    if runs := vars(arguments).get("runs"):
        if rest:
            misuse(f"unknown argument {rest[0]!r}; {arguments.verb} of --runs reads no config.")
        return {}, _result_folder(arguments, runs)
    if published.asked(arguments):
        return _of_dictionary(arguments, rest)
    if arguments.config is None:
        if not from_workdir or arguments.workdir is None:
            more = " or --workdir=DIR" if from_workdir else ""
            misuse(f"{arguments.verb} needs --config=experiments/NAME.py{more}.")
        if rest:
            misuse(f"unknown argument {rest[0]!r}; without --config nothing else can be set.")
        workdir = _workdir(arguments.workdir)
        return read_config(workdir), workdir
    name, _, arg = arguments.config.partition(":")
    file = Path(name)
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist; --config names an experiment's file.")
    config = read(file, arg, rest)
    workdir = _workdir(arguments.workdir or Path("runs") / file.stem)
    stream = config.get("stream", {})
    if "name" in stream and streams.from_harvest(stream["name"]):
        config["stream"].setdefault("path", str(workdir / "activations"))
    if from_workdir and (workdir / "config.json").is_file():
        _refuse_other(config, workdir)
    return config, workdir


def _of_dictionary(arguments: Namespace, rest: Sequence[str]) -> tuple[dict, Path]:
    """The config and the folder for measuring a published dictionary, which `arguments` hold, loaded."""
    others = [word for word in rest if not word.startswith("--config.meters.")]
    if arguments.config or others:
        takes = ", ".join((*published.FLAGS, "--config.meters.KEY=VALUE"))
        misuse(f"--dictionary takes {takes}, and no {others or '--config'}.")
    chosen = _with_keys(ConfigDict({"meters": {}}), rest)[0]
    meters.check(chosen["meters"])
    path = Path(arguments.dictionary)
    workdir = _workdir(arguments.workdir or Path("runs") / path.stem)
    if (workdir / "config.json").exists():
        raise ValueError(f"{workdir} holds a run; --workdir names a folder for the metrics.")
    arguments.dictionary = interop.load(path)
    config = published.config_of(arguments, path) | _filled(chosen)
    workdir.mkdir(parents=True, exist_ok=True)
    return config, workdir


def _workdir(path: str | Path) -> Path:
    if "://" in str(path):
        raise ValueError(
            f"--workdir={path} is not a folder; mount the bucket, and give its folder."
        )
    return Path(path)


def _refuse_other(config: dict, workdir: Path) -> None:
    """Raises ValueError if the run in the workdir has another config."""
    was = read_config(workdir)
    own = grid.like(config, was) if grid.within(was, config) else config
    if changed := changes(was, own):
        raise ValueError(
            f"{workdir} holds a run with {'; '.join(changed)}; give its own --workdir, or leave --config out."
        )


def _analysed(arguments: Namespace, rest: Sequence[str]) -> list[str]:
    """Moves the words and the `settings` of an analysis out of the arguments; returns the rest."""
    ours = lambda word: word.startswith(("--config.", "--mesh."))
    arguments.words += [word for word in rest if not word.startswith("-")]
    arguments.settings = [word for word in rest if word.startswith("-") and not ours(word)]
    return [word for word in rest if ours(word)]


def _result_folder(arguments: Namespace, named: Sequence[str]) -> Path:
    """The folder of the result for subjects or runs that the command line names: the workdir, or the workdir of
    the only one, or runs/A-B.
    """
    if arguments.config:
        misuse(f"{named[0]} or --config, not both; --workdir says where the result goes.")
    subjects = [Path(subject) for subject in named]
    together = Path("runs") / "-".join(subject.stem for subject in subjects)
    own = len(subjects) == 1 and subjects[0].is_dir()
    return Path(arguments.workdir or (subjects[0] if own else together))


def _long(words: Sequence[str]) -> list[str]:
    """The words of the command line, with short options (see above) replaced by their keys."""
    short, found = "--config.model=", []
    for word in words:
        if not word.startswith(short):
            word = re.sub(r"^--config\.(?=(taps|text)=)", "--config.harvest.", word)
            found.append(re.sub(r"^--mesh\.", "--config.mesh.", word))
    for word in [word for word in words if word.startswith(short)][-1:]:
        own = model(word.removeprefix(short))
        found += [f"--config.model.{key}={value}" for key, value in own.items()]
    return found


def misuse(message: str) -> NoReturn:
    print(f"dictlearn: error: {message}", file=sys.stderr)
    raise SystemExit(2)
