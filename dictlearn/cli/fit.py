"""`dictlearn fit`: a scaling law of the dictionaries of one or several runs."""

from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path

FLAGS = {
    "--law": {"metavar": "NAME", "help": "the law; an unknown one lists them; default joint"},
    "--runs": {
        "action": "append",
        "metavar": "DIR",
        "help": "a workdir whose dictionaries are fitted, any number of times; default --workdir, "
        "which with --runs says where the law goes",
    },
    "--loss": {"metavar": "METRIC", "help": "the metric of metrics.json; default fvu"},
    "--at": {
        "action": "append",
        "default": [],
        "metavar": "INPUT=VALUE",
        "help": "fit only the dictionaries with this value, such as k=32",
    },
}


def fit(config: Mapping, workdir: Path, arguments: Namespace) -> None:
    """Fits the law, writes it with its figure to the workdir, and prints its parameters."""
    from dictlearn.scaling import fit_law, inputs, laws, paths

    name = arguments.law or laws.DEFAULT
    runs = [Path(run) for run in arguments.runs or [workdir]]
    loss = arguments.loss or inputs.LOSS
    found = fit_law(name, runs, workdir, _at(arguments.at), loss)
    print(found["law"])
    width = max(map(len, found["parameters"]))
    for parameter, value in found["parameters"].items():
        known = "" if found["identified"][parameter] else "  not identified"
        interval = f"[{value['low']: .4f}, {value['high']: .4f}]"
        print(f"{parameter:{width}} {value['value']: .4f}  {interval}{known}")
    for quantity, value in found["derived"].items():
        print(f"{quantity}: {value['value']:.4f}  [{value['low']:.4f}, {value['high']:.4f}]")
    print(
        f"held-out cells: worst {found['held_out_worst']:.2%}, median {found['held_out_median']:.2%}"
    )
    print(f"law: {', '.join(map(str, paths(name, workdir)))}")


def _at(words: Sequence[str]) -> dict[str, float]:
    """{input: value} from words INPUT=VALUE."""
    found = {}
    for word in words:
        name, _, value = word.partition("=")
        try:
            found[name] = float(value)
        except ValueError:
            raise ValueError(f"--at={word} is not an input and a number, such as k=32.") from None
    return found
