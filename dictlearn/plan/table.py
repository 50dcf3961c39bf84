"""A plan as tables for a terminal."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

SHOWN = 6
"""The number of collectives listed for a program, most bytes first."""


def show(plan: Mapping[str, Any], console: Console) -> None:
    """Prints the programs, their collectives, the times and the warnings of a plan.

    Args:
        plan: the plan.
        console: where to print.
    """
    mesh = " x ".join(f"{axis} {ways}" for axis, ways in plan["mesh"].items())
    tokens = f"{plan['batch_size']:,} tokens a step, d_in {plan['d_in']}"
    console.print(f"{plan['topology']} ({mesh}), {tokens}", highlight=False)
    rows = [*plan["programs"], *([plan["language_model"]] if plan["language_model"] else [])]
    console.print(_programs(rows, plan["chip"]))
    listed = [row for row in rows if row.get("collectives")]
    if listed:
        console.print(_collectives(listed))
    if len(plan["cells"]) > 1:
        console.print(_cells(plan["cells"]))
    for line in _lines(plan):
        console.print(line, highlight=False)
    for warning in plan["warnings"]:
        console.print(f"warning: {warning}", style="yellow", highlight=False)


def _programs(rows, chip) -> Table:
    table = Table(title="Of one device, and one step", title_justify="left")
    table.add_column("program")
    columns = ["parameters", "arguments", "temporaries", "peak", "FLOPs", "memory traffic", "sent"]
    columns[4:4] = ["of HBM"] if chip else []
    columns += ["at least"] if chip else []
    for column in columns:
        table.add_column(column, justify="right")
    for row in rows:
        cells = [row["name"], f"{row['parameters']:,}"]
        if "problem" in row:
            table.add_row(*cells, "does not fit")
            continue
        cells += [binary(row[name]) for name in ("arguments", "temporaries", "total")]
        cells += [f"{row['share_of_hbm']:.0%}"] if chip else []
        cells += [f"{row['flops']:.3g}", binary(row["bytes_accessed"]), binary(row["bytes_sent"])]
        if chip:
            bound = max(row["seconds_by"], key=row["seconds_by"].get)
            cells.append(f"{row['seconds'] * 1e3:.3g} ms ({bound})")
        table.add_row(*cells)
    return table


def _cells(cells) -> Table:
    table = Table(title="Of each cell, and its whole training", title_justify="left")
    table.add_column("cell")
    settings = list(dict.fromkeys(name for cell in cells for name in cell["settings"]))
    prices = ("tokens", "FLOPs", "memory traffic", "state", "at least")
    for column in (*settings, *prices):
        table.add_column(column, justify="right")
    for cell in cells:
        told = [cell["name"], *(str(cell["settings"].get(name, "")) for name in settings)]
        told += [f"{cell['tokens']:,}"]
        if "flops" in cell:
            told += [
                f"{cell['flops']:.3g}",
                *(binary(cell[n]) for n in ("bytes_accessed", "state")),
            ]
        if "seconds" in cell:
            told += [f"{cell['seconds']:.3g} s"]
        table.add_row(*told)
    return table


def _collectives(rows) -> Table:
    table = Table(title="Sent to other devices, by one device in one step", title_justify="left")
    for column in ("program", "collective", "of", "devices", "times", "bytes"):
        table.add_column(
            column, justify="right" if column in ("devices", "times", "bytes") else "left"
        )
    for row in rows:
        moved = row["collectives"]
        for one in moved[:SHOWN]:
            cells = (one["kind"], one["shape"], str(one["devices"]), str(one["times"]))
            table.add_row(row["name"], *cells, binary(one["sent"]))
        if more := moved[SHOWN:]:
            rest = binary(sum(one["sent"] for one in more))
            table.add_row(row["name"], f"{len(more)} more", "", "", "", rest)
    return table


def _lines(plan: Mapping[str, Any]) -> list[str]:
    together, time, found = plan["together"], plan["time"], []
    if "flops" in plan["total"]:
        found.append(f"all cells: {plan['total']['flops']:.3g} FLOPs")
    if "total" in together:
        share = f", {together['share_of_hbm']:.0%} of HBM" if "share_of_hbm" in together else ""
        found.append(f"together: {binary(together['total'])} a device{share}")
    if "harvest_tokens_per_second" in time:
        hours = f", {time['harvest_hours']:.3g} hours" if "harvest_hours" in time else ""
        found.append(f"harvest: at most {time['harvest_tokens_per_second']:,.0f} tokens/s{hours}")
    if "hours" in time:
        step = f"{time['step_seconds'] * 1e3:.3g} ms a step"
        found.append(
            f"training: at least {step}, at most {time['tokens_per_second']:,.0f} tokens/s"
        )
        hours = f"{time['hours']:.3g} hours, {time['chip_hours']:.3g} chip-hours"
        found.append(f"{time['tokens']:,} tokens: at least {hours}")
    return found


def binary(n: float) -> str:
    """A number of bytes in a readable unit.

    Args:
        n: bytes.

    Returns:
        The text.
    """
    for unit in ("B", "KiB", "MiB"):
        if n < 1024:
            return f"{n:.3g} {unit}"
        n /= 1024
    return f"{n:,.1f} GiB"
