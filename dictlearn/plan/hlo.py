"""The communication and the memory traffic of a compiled program, read from its HLO text.

A computation counts as often as it runs. The body of a loop runs as often as its condition states (a
comparison of a counter with a constant; once if there is none). Of the branches of a conditional, the one
that sends most counts. By the ring algorithms, a device in a group of n sends these multiples of the
resulting array:

    all-reduce 2 (n - 1) / n      all-gather, all-to-all (n - 1) / n
    reduce-scatter n - 1          collective-permute 1

The compiler counts the bytes of a loop's body once. They are corrected by the ratio of two counts over the
operands and results of all instructions: one with loops, and one without.

Source: Chan et al. 2007, "Collective communication: theory, practice, and experience", for the rings.
"""

import math
import re
from collections.abc import Callable
from typing import NamedTuple

_WIDTH = {"pred": 1, "s4": 1, "u4": 1, "c64": 8, "c128": 16, "bf16": 2}
_ARRAY = re.compile(r"\b(pred|bf16|[suf]\d+\w*|c64|c128)\[([\d,]*)\]")
_LINE = re.compile(r"^\s+(?:ROOT )?(%?[\w.-]+) = (.*?) ([a-z][a-z-]*)\((.*)$")
_HEADER = re.compile(r"^(ENTRY )?(%?[\w.-]+) \(.*\{$")
_SENT: dict[str, Callable[[int], float]] = {
    "all-reduce": lambda n: 2 * (n - 1) / n,
    "all-gather": lambda n: (n - 1) / n,
    "all-to-all": lambda n: (n - 1) / n,
    "reduce-scatter": lambda n: n - 1,
    "collective-permute": lambda n: 1,
}
_FREE = {
    *("parameter", "constant", "get-tuple-element", "tuple", "bitcast", "while", "conditional"),
    *("call", "after-all", "partition-id", "async-start", "async-update", "async-done", "iota"),
}


class Instruction(NamedTuple):
    """One line: `name = shape op(rest`, where the rest has operands and attributes."""

    name: str
    shape: str
    op: str
    rest: str


class Collective(NamedTuple):
    """A collective of one program.

    shape: the shape of the result on a device. devices: the number of devices in a group. times: how often
    it runs in a step. sent: the bytes that a device sends in a step.
    """

    kind: str
    shape: str
    devices: int
    times: int
    sent: float


class Program(NamedTuple):
    """The computations by name, and the name of the entry computation."""

    computations: dict[str, list[Instruction]]
    entry: str


def parse(text: str) -> Program:
    """Parses the computations of an HLO module.

    Args:
        text: the text of the module.

    Returns:
        A Program.
    """
    found: dict[str, list[Instruction]] = {}
    entry, here = "", None
    for line in text.splitlines():
        if header := _HEADER.match(line):
            here = found.setdefault(_plain(header[2]), [])
            entry = _plain(header[2]) if header[1] else entry
        elif here is not None and (row := _LINE.match(line)):
            here.append(Instruction(_plain(row[1]), row[2], row[3], row[4]))
    return Program(found, entry)


def elements(shape: str) -> int:
    """The number of elements of the largest array in a shape.

    Args:
        shape: a shape as HLO writes it.

    Returns:
        The number.
    """
    return max((math.prod(_sizes(sizes)) for _, sizes in _ARRAY.findall(shape)), default=0)


def collectives(program: Program, n_devices: int) -> list[Collective]:
    """The collectives of a step, grouped by kind, shape and group.

    Args:
        program: the program.
        n_devices: the number of devices of the mesh.

    Returns:
        The collectives, most bytes first.
    """
    total: dict[tuple[str, str, int], tuple[int, float]] = {}
    for one in _within(program, program.entry, n_devices):
        key = one.kind, one.shape, one.devices
        times, sent = total.get(key, (0, 0.0))
        total[key] = times + one.times, sent + one.sent
    rows = [Collective(*key, *value) for key, value in total.items()]
    return sorted(rows, key=lambda one: -one.sent)


def largest(program: Program) -> int:
    """The number of elements of the largest result of a collective between devices, in any branch.

    Args:
        program: the program.

    Returns:
        The number.
    """
    lines = (line for lines in program.computations.values() for line in lines)
    moved = (line for line in lines if line.op.removesuffix("-start") in _SENT)
    return max((elements(line.shape) for line in moved if _group(line.rest, 2) > 1), default=0)


def loop_ratio(program: Program) -> float:
    """The bytes of all instructions with loops counted as often as they run, over the bytes with loops counted
    once.

    Args:
        program: the program.

    Returns:
        The ratio, at least 1.
    """
    once = _bytes(program, program.entry, lambda turns: 1)
    return _bytes(program, program.entry, lambda turns: turns) / once if once else 1.0


def _within(program: Program, name: str, n_devices: int) -> list[Collective]:
    found = []
    for line in program.computations.get(name, []):
        kind = line.op.removesuffix("-start")
        if kind in _SENT:
            found.append(_collective(kind, line, n_devices))
        if line.op == "while":
            body = _within(program, _named("body", line), n_devices)
            turns = _turns(program, line)
            found += [one._replace(times=one.times * turns, sent=one.sent * turns) for one in body]
        elif line.op == "conditional":
            branches = [_within(program, branch, n_devices) for branch in _branches(line)]
            found += max(branches, key=lambda branch: sum(one.sent for one in branch), default=[])
        elif line.op in ("fusion", "call", "async-start"):
            found += _within(program, _named("calls|to_apply", line), n_devices)
    return found


def _collective(kind: str, line: Instruction, n_devices: int) -> Collective:
    arrays = _ARRAY.findall(line.shape)
    if line.op.endswith("-start") and kind != "all-reduce":
        arrays = [max(arrays, key=_size)]
    shape = ", ".join(f"{dtype}[{sizes}]" for dtype, sizes in arrays)
    n = _group(line.rest, n_devices)
    return Collective(kind, shape, n, 1, _SENT[kind](n) * sum(map(_size, arrays)))


def _group(rest: str, n_devices: int) -> int:
    """The number of devices in a group, from any form in which HLO writes groups."""
    if listed := re.search(r"replica_groups=\{\{([\d,]*)\}", rest):
        return listed[1].count(",") + 1
    if tiled := re.search(r"replica_groups=\[\d+,(\d+)\]<=", rest):
        return int(tiled[1])
    if named := re.search(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}", rest):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", named[1]))
        return math.prod(int(sizes[axis]) for axis in re.findall(r"'(\w+)'", named[2]))
    return n_devices


def _turns(program: Program, line: Instruction) -> int:
    """How often the body of a loop runs; 1 if the text does not state it."""
    if told := re.search(r"known_trip_count[^\d]*(\d+)", line.rest):
        return int(told[1])
    condition = program.computations.get(_named("condition", line), [])
    limits = [re.match(r"(\d+)\)", row.rest) for row in condition if row.op == "constant"]
    return max((int(limit[1]) for limit in limits if limit), default=1)


def _bytes(program: Program, name: str, count: Callable[[int], int]) -> float:
    rows, total = program.computations.get(name, []), 0.0
    size = {row.name: sum(map(_size, _ARRAY.findall(row.shape))) for row in rows}
    for row in rows:
        if row.op == "while":
            total += count(_turns(program, row)) * _bytes(program, _named("body", row), count)
        elif row.op == "conditional":
            total += max((_bytes(program, one, count) for one in _branches(row)), default=0.0)
        elif row.op == "call":
            total += _bytes(program, _named("to_apply", row), count)
        elif row.op not in _FREE:
            operands = re.findall(r"%?([\w.-]+)", row.rest.split(")")[0])
            total += size[row.name] + sum(size.get(operand, 0) for operand in operands)
    return total


def _named(attribute: str, line: Instruction) -> str:
    found = re.search(rf"\b(?:{attribute})=(%?[\w.-]+)", line.rest)
    return _plain(found[1]) if found else ""


def _branches(line: Instruction) -> list[str]:
    listed = re.search(r"branch_computations=\{([^}]*)\}", line.rest)
    names = (
        listed[1].split(",")
        if listed
        else re.findall(r"(?:true|false)_computation=([^,]+)", line.rest)
    )
    return [_plain(name.strip()) for name in names]


def _plain(name: str) -> str:
    return name.removeprefix("%")


def _size(array: tuple[str, str]) -> int:
    dtype, sizes = array
    digits = re.match(r"[suf](\d+)", dtype)
    width = _WIDTH[dtype] if dtype in _WIDTH else max(1, int(digits[1]) // 8 if digits else 4)
    return width * math.prod(_sizes(sizes))


def _sizes(text: str) -> list[int]:
    return [int(size) for size in text.split(",") if size]
