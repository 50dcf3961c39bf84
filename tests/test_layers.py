"""Who may import whom (docs/design.md), and what may not be written anywhere: the fences of the house."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "dictlearn"

LAYERS = (
    {"types", "files"},
    {"sharding", "normalise"},
    {"ops", "lm"},
    {"dictionaries", "objectives", "rules", "streams", "meters"},
    {"learners"},
    {"sweep"},
    {"experiment"},
    {"runs"},
    {"train", "plan", "harvest", "evaluate", "interop", "scaling"},
    {"analyses", "circuits"},
    {"interpret"},
    {"report"},
    {"cli"},
    {"__init__"},
)
"""From the bottom up. A room imports lower layers and itself, never another room of its own layer."""
RAISED = {("analyses", "circuits"), ("circuits", "analyses")}
"""Rooms of one layer that may meet all the same: an analysis uses another's result."""
STRANGERS = ("dictionaries", "dictionaries/_activations", "learners", "meters", "interop")
"""Folders in which no member imports another; what members share has an underscore."""

FILES = {
    ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): file
    for file in sorted(PACKAGE.rglob("*.py"))
}
TREES = {name: ast.parse(file.read_text()) for name, file in FILES.items()}


def imported(name: str) -> set[str]:
    """The files of the package that a file imports, within functions and for types only included."""
    found = set()
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in FILES else node.module)
    return (found & FILES.keys()) - {name}


IMPORTS = {name: imported(name) for name in FILES}


def room(name: str) -> str:
    return (*name.split("."), "__init__")[1]


def level(name: str) -> int:
    found = [i for i, layer in enumerate(LAYERS) if room(name) in layer]
    assert found, f"{name} has no layer"
    return found[0]


def places(kind):
    """(file, node) for every node of a kind in the package."""
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, kind):
                yield name, node


def shown(name: str, node: ast.expr) -> str:
    return f"{FILES[name].relative_to(PACKAGE)}:{node.lineno}: {ast.unparse(node)}"


def test_every_import_goes_down():
    wrong = [
        f"{name} imports {other}"
        for name, others in IMPORTS.items()
        for other in sorted(others)
        if room(name) != room(other)
        and level(name) <= level(other)
        and (room(name), room(other)) not in RAISED
    ]
    assert not wrong, "\n".join(wrong)


def test_no_files_import_each_other_in_a_circle():
    left = {name: set(others) for name, others in IMPORTS.items()}
    while free := {name for name, others in left.items() if not others & left.keys()}:
        left = {name: others for name, others in left.items() if name not in free}
    # What is left imports a circle or is on one; on one is what can be reached from itself.
    reached = {name: others & left.keys() for name, others in left.items()}
    for _ in left:
        reached = {a: bs.union(*(reached[b] for b in bs)) for a, bs in reached.items()}
    assert not (on := sorted(name for name in left if name in reached[name])), on


@pytest.mark.parametrize("folder", STRANGERS)
def test_members_of_a_folder_do_not_know_each_other(folder):
    within = "dictlearn." + folder.replace("/", ".")
    members = {f"{within}.{file.stem}" for file in (PACKAGE / folder).glob("[a-z]*.py")}
    wrong = {name: both for name in members if (both := IMPORTS[name] & members)}
    assert not wrong


def test_only_placement_names_a_mesh_axis():
    allowed = {"sharding.py", "ops/topk/exact.py", "ops/sparse/rows.py"}
    placing = ("PartitionSpec", "NamedSharding", "shard_map")
    for file in FILES.values():
        where, text = str(file.relative_to(PACKAGE)), file.read_text()
        assert where in allowed or not any(name in text for name in placing), where


ROOMS = ("dictionaries", "learners", "streams", "rules")


def test_no_variant_is_told_by_its_class_outside_its_room():
    classes = {node.name for name, node in places(ast.ClassDef) if room(name) in ROOMS}
    wrong = []
    for name, call in places(ast.Call):
        if ast.unparse(call.func) in ("isinstance", "issubclass"):
            asked = {
                node.attr for node in ast.walk(call.args[1]) if isinstance(node, ast.Attribute)
            }
            asked |= {node.id for node in ast.walk(call.args[1]) if isinstance(node, ast.Name)}
            wrong += [shown(name, call)] if asked & classes and room(name) not in ROOMS else []
    assert not wrong, "\n".join(wrong)


def test_few_files_lie_loose():
    assert len(loose := sorted(file.stem for file in PACKAGE.glob("*.py"))) <= 10, loose


def test_files_stay_small():
    sizes = {name: len(file.read_text().splitlines()) for name, file in FILES.items()}
    long = {name: size for name, size in sizes.items() if size > 320}
    assert not long, f"draw a wall: {long}"


def test_functions_stay_short():
    functions = places(ast.FunctionDef)
    sizes = sorted((f.end_lineno - f.lineno + 1, f"{name}.{f.name}") for name, f in functions)
    at = len(sizes) * 95 // 100
    assert sizes[at][0] <= 30, sizes[at:]
