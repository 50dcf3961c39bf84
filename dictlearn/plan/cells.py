"""The price of each cell of a grid, and what of it is over the budget.

A cell is a dictionary, trained for its own number of steps. A step of a program is shared equally by its
dictionaries, which cost what the one with the largest k costs. Operations and memory traffic are those of all
devices together, over the whole training; `state` is what one device holds.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from dictlearn.experiment import Program
from dictlearn.runs.workdir import short


def cells(
    programs: Sequence[Program], rows: Sequence[Mapping], batch_size: int, devices: int
) -> list[dict]:
    """The price of each dictionary.

    Args:
        programs: the programs of the config.
        rows: their rows in the plan.
        batch_size: the tokens of a step.
        devices: the number of devices.

    Returns:
        {"name", "settings", "steps", "tokens", "flops", "bytes_accessed", "state", "seconds"} for each. The
        settings are the hyperparameters that differ. Seconds are given for known chips. A cell of a program
        that does not fit has no price.
    """
    members = [member for program in programs for member in program.members]
    differing = dict(zip((m.name for m in members), _differing(members), strict=True))
    found = []
    for program, row in zip(programs, rows, strict=True):
        price = {} if "problem" in row else _price(row, program.steps, devices)
        for member in program.members:
            tokens = program.steps * batch_size
            told = {"name": member.name, "settings": differing[member.name]}
            found.append({**told, "steps": program.steps, "tokens": tokens, **price})
    return found


def over(budget: Mapping[str, float], plan: Mapping[str, Any]) -> list[str]:
    """What a plan needs beyond the budget; what it does not know is not compared.

    Args:
        budget: `config.budget`, {NAME: the most}.
        plan: the plan, with its cells.

    Returns:
        A sentence for each, with the figures and the dearest cell.
    """
    found, priced = [], [cell for cell in plan["cells"] if "state" in cell]
    for name, needed in total(plan).items():
        if needed > budget.get(name, needed):
            key = {"flops": "flops", "hours": "seconds", "bytes": "state"}[name]
            worst = max(priced, key=lambda cell: cell[key])
            share = worst[key] / sum(cell[key] for cell in priced)
            found.append(
                f"Over budget: at least {needed:.3g} {name}, and budget.{name} is {budget[name]:.3g}. The "
                f"dearest cell is {worst['name']}, {share:.0%} of all; leave cells out of config.sweep, or "
                f"raise budget.{name}."
            )
    return found


def total(plan: Mapping[str, Any]) -> dict[str, float]:
    """What all cells need, under the names of a budget; what is not known is left out.

    Args:
        plan: the plan, with its cells.

    Returns:
        {NAME: amount}.
    """
    cells, found = plan["cells"], {}
    if all("flops" in cell for cell in cells):
        found["flops"] = sum(cell["flops"] for cell in cells)
    if "hours" in plan["time"]:
        found["hours"] = plan["time"]["hours"]
    if "total" in plan["together"]:
        found["bytes"] = plan["together"]["total"]
    return found


def _price(row: Mapping[str, Any], steps: int, devices: int) -> dict[str, float]:
    """The price of each of the dictionaries of a program."""
    each = steps / row["dictionaries"]
    found = {name: row[name] * devices * each for name in ("flops", "bytes_accessed")}
    found["state"] = row["state"] / row["dictionaries"]
    return found | ({"seconds": row["seconds"] * each} if "seconds" in row else {})


def _differing(members: Sequence) -> list[dict]:
    """The hyperparameters of each member that are not those of every member."""
    every = short([member.hparams for member in members])
    names = {name for one in every for name in one}
    differ = [n for n in sorted(names) if len({str(one.get(n)) for one in every}) > 1]
    return [{name: one[name] for name in differ if name in one} for one in every]
