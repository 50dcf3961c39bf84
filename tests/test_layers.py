"""The layers of imports (docs/design.md), and code that may not be written anywhere."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "dictlearn"

LAYERS = (
    {"types", "files"},
    {"sharding", "normalise"},
    {"ops", "lm"},
    {"tasks"},
    {"dictionaries", "objectives", "rules", "streams", "meters"},
    {"learners"},
    {"sweep"},
    {"experiment"},
    {"runs"},
    {"events", "steering"},
    {"interop"},
    {"train", "plan", "harvest", "evaluate", "scaling"},
    {"explanations"},
    {"analyses", "circuits"},
    {"report", "hub", "suites"},
    {"cli"},
    {"__init__"},
)
"""From the bottom up. A room imports lower layers and itself, never another room of its own layer."""
RAISED = {("analyses", "circuits"), ("circuits", "analyses")}
"""Rooms of one layer that may meet all the same: an analysis uses another's result."""
STRANGERS = (
    *("dictionaries", "dictionaries/_activations", "learners", "meters", "interop"),
    *("lm/families", "explanations/clients", "explanations/scorers", "scaling/laws", "tasks"),
)
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


OTHERS = {"key", "path[-1]", "leaf", "placed", "jaxpr", "params.get(name)", "config", "arguments"}
OTHERS |= {"tree", "_module(name)"}
"""What may be asked for an attribute it need not have: trees, entries of their paths, arrays, jaxprs, a config,
arguments of the command line, and files of Python, a room's `_module(name)` among them. What a file makes, a
dictionary, a rule or a learner, never."""


def test_nothing_asks_a_module_what_it_has():
    wrong = []
    for name, call in places(ast.Call):
        asked = ast.unparse(call.func)
        if asked == "hasattr" or (asked == "getattr" and len(call.args) == 3):
            of = ast.unparse(call.args[0])
            if of not in OTHERS and not of.startswith(("importlib.import_module(", "jax.")):
                wrong.append(shown(name, call))
    assert not wrong, "\n".join(wrong)


def reads_a_name(node: ast.AST) -> bool:
    """Whether it is `...["name"]` or `....get("name")`."""
    inside = node.slice if isinstance(node, ast.Subscript) else None
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".get") and node.args:
        inside = node.args[0]
    return isinstance(inside, ast.Constant) and inside.value == "name"


OPEN = ("dictionaries", "learners", "objectives", "rules", "streams", "meters", "interop")
"""Rooms of things that are found by name; what is in one may be told apart there alone."""


def test_nothing_outside_a_room_asks_for_the_name_of_what_is_in_it():
    members = {
        name.split(".")[2]: room(name)
        for name in FILES
        if room(name) in OPEN and name.count(".") == 2
    }
    wrong = []
    for name, compare in places(ast.Compare):
        sides = [node for one in (compare.left, *compare.comparators) for node in ast.walk(one)]
        constants = {node.value for node in sides if isinstance(node, ast.Constant)}
        owners = {members[value] for value in constants if value in members}
        # "relu" and "adam" are words of language models too, which import none of these rooms.
        if room(name) != "lm" and owners - {room(name)}:
            wrong.append(shown(name, compare))
        if room(name) not in OPEN and any(map(reads_a_name, (compare.left, *compare.comparators))):
            wrong.append(shown(name, compare))
    assert not wrong, "\n".join(wrong)


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
    long = {name: size for name, size in sizes.items() if size > 300}
    assert not long, f"draw a wall: {long}"


def test_functions_stay_short():
    functions = places(ast.FunctionDef)
    sizes = sorted((f.end_lineno - f.lineno + 1, f"{name}.{f.name}") for name, f in functions)
    at = len(sizes) * 95 // 100
    assert sizes[at][0] <= 30, sizes[at:]
