"""`dictlearn steer`: continuations of a prompt with and without an intervention on latents, side by side."""

import json
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dictlearn import lm as language
from dictlearn import steering
from dictlearn.cli import events, published
from dictlearn.runs.trained import Trained
from dictlearn.steering import Intervention

OF_LATENTS = {"value": "set", "scale": "scale", "add": "add", "kl": "add"}
"""Flag -> the op of the latents that it gives strengths to."""

_NUMBERS = "one number, or several with commas between them for a sweep"
FLAGS = {
    **published.FLAGS,
    "--name": events.FLAGS["--name"],
    "--prompt": {"required": True, "metavar": "TEXT", "help": "the text to continue"},
    "--latent": {"metavar": "I[,J]", "help": "the latent, or several"},
    "--value": {"metavar": "V", "help": f"set the latents to V, in units of the codes; {_NUMBERS}"},
    "--scale": {"metavar": "A", "help": f"multiply the latents by A; {_NUMBERS}"},
    "--add": {"metavar": "V", "help": f"add V to the latents, in units of the codes; {_NUMBERS}"},
    "--kl": {
        "metavar": "NATS",
        "help": "add to the latents until the predictions on the prompt have moved by this KL",
    },
    "--edit": {
        "metavar": "JSON",
        "help": "any intervention or a list of them, instead of --latent",
    },
    "--positions": {
        "choices": steering.POSITIONS,
        "default": "all",
        "help": "tokens that change, never the first; default all",
    },
    "--n_tokens": {"type": int, "default": 40, "metavar": "N", "help": "tokens to generate"},
    "--temperature": {"type": float, "default": 0.0, "help": "0 takes the most likely token"},
    "--seed": {"type": int, "default": 0, "help": "of the draws, if the temperature is not 0"},
    "--json": {"action": "store_true", "help": "print JSON"},
}


class Asked(NamedTuple):
    """interventions: what changes. strengths: one for each continuation. kl: whether they are KLs."""

    interventions: tuple[Intervention, ...]
    strengths: list[float]
    kl: bool


def steer(config: Mapping, workdir: Path, arguments: Namespace) -> None:
    """Prints the prompt's continuations."""
    wanted = asked(arguments)
    subject, dictionary = events.named(config, workdir, arguments)
    lm = subject.lm
    words = lm.tokenizer.encode(arguments.prompt, add_special_tokens=False).ids
    given = language.prompts(lm, [[lm.separator, *words]])
    rows = _steered(lm, dictionary, wanted, given, arguments)
    sampling = {"temperature": arguments.temperature, "seed": arguments.seed}
    plain = language.generate(
        lm, given, n_tokens=arguments.n_tokens, stop=[lm.separator], **sampling
    )
    found = {
        "dictionary": dictionary.name,
        "prompt": arguments.prompt,
        "interventions": [one.told() for one in wanted.interventions],
        "base": lm.tokenizer.decode(plain.texts()[0]),
        "steered": rows,
    }
    if arguments.json:
        print(json.dumps(found, indent=1, ensure_ascii=False))
    else:
        Console().print(_table(found))


def asked(arguments: Namespace) -> Asked:
    """The interventions of a command line.

    Raises ValueError unless exactly one flag says how much, and for a flag without --latent.
    """
    flags = vars(arguments)
    said = [flag for flag in (*OF_LATENTS, "edit") if flags[flag] is not None]
    if len(said) != 1 or (said != ["edit"]) != (arguments.latent is not None):
        raise ValueError(
            "give --latent=I with one of --value, --scale, --add, --kl, or --edit alone; there are "
            f"{['latent'] * (arguments.latent is not None) + said}."
        )
    (flag,) = said
    if flag == "edit":
        try:
            told = json.loads(arguments.edit)
        except json.JSONDecodeError as error:
            raise ValueError(f"--edit={arguments.edit!r} is no JSON: {error}.") from error
        listed = told if isinstance(told, list) else [told]
        return Asked(steering.several([Intervention.of(one) for one in listed]), [1.0], False)
    latents = tuple(_numbers("latent", arguments.latent, int))
    one = Intervention(OF_LATENTS[flag], latents, positions=arguments.positions)
    return Asked((one,), _numbers(flag, flags[flag], float), flag == "kl")


def _numbers(flag: str, text: str, kind: type) -> list:
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError as error:
        raise ValueError(f"--{flag}={text!r} is no {kind.__name__}, nor several.") from error


def _steered(
    lm: language.LM,
    dictionary: Trained,
    wanted: Asked,
    given: language.Prompts,
    arguments: Namespace,
) -> list[dict[str, Any]]:
    """A record of every strength: the strength, the KL, the tokens that it raises, and the continuation."""
    interventions, strengths, kl = wanted
    inputs = lm, dictionary, interventions, given
    if kl:
        found = [steering.calibrated(*inputs, target) for target in strengths]
    elif all(one.positions == "generated" for one in interventions):
        found = [steering.Effect(one, np.nan, np.zeros(0)) for one in strengths]
    else:
        found = steering.effects(*inputs, strengths)
    many = language.Prompts(*(np.repeat(part, len(found), axis=0) for part in given))
    sampling = {"temperature": arguments.temperature, "seed": arguments.seed}
    strength_B = np.array([one.strength for one in found])
    texts = steering.steer(
        *(lm, dictionary, interventions, many),
        **{"n_tokens": arguments.n_tokens, "strength": strength_B, "stop": [lm.separator]},
        **sampling,
    ).texts()
    return [
        {
            "strength": effect.strength,
            "kl": None if np.isnan(effect.kl) else effect.kl,
            "raised": [[lm.tokenizer.decode([token]), gain] for token, gain in effect.raised()],
            "text": lm.tokenizer.decode(text),
        }
        for effect, text in zip(found, texts, strict=True)
    ]


def _table(found: Mapping[str, Any]) -> Table:
    """The continuations, the base first, as text without markup."""
    table = Table(title=Text(f"{found['prompt']} ..."), title_justify="left", show_lines=True)
    for name in ("strength", "KL", "raised", "continuation"):
        table.add_column(name)
    table.add_row("base", "", "", Text(found["base"]))
    for row in found["steered"]:
        kl = "" if row["kl"] is None else f"{row['kl']:.3f}"
        words = " ".join(repr(word) for word, _ in row["raised"])
        table.add_row(f"{row['strength']:.4g}", kl, Text(words), Text(row["text"]))
    return table
