"""Who may import whom (docs/design.md): arrows point down, siblings do not know each other."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "dictlearn"

MAY = {
    "types": set(),
    "sharding": {"types"},
    "normalise": {"types"},
    "checkpoint": set(),
    "distributed": set(),
    "progress": set(),
    "workdir": set(),
    "ops": {"types", "sharding", "ops"},
    "dictionaries": {"types", "ops", "dictionaries._linear", "dictionaries"},
    "objectives": {"types"},
    "rules": {"types", "ops", "rules"},
    "learners": {"types", "ops", "learners"},
    "sweep": {"types", "sharding"},
    "topology": {"sharding"},
    "lm": {"types", "sharding", "topology", "lm"},
    "streams": {"types", "sharding", "normalise", "lm", "streams"},
    "meters": {"types", "ops", "meters"},
    "scaling": {"scaling"},
    "experiment": {"types", "sharding", "dictionaries", "objectives", "rules", "learners", "sweep"},
    "feed": {
        *("types", "sharding", "experiment", "streams", "lm"),
        *("dictionaries", "learners", "objectives"),
    },
    "begin": {"normalise", "sharding", "fold", "trained"},
    "train": {"sharding", "experiment", "streams", "feed", "begin", "checkpoint", "workdir"},
    "plan": {"types", "sharding", "topology", "experiment", "lm", "streams", "feed", "plan"},
    "configs": {"experiment", "sharding", "lm", "streams", "evaluate"},
    "fold": {"normalise"},
    "trained": {"types", "ops", "fold", "normalise", "experiment", "checkpoint", "workdir"},
    "evaluate": {
        *("types", "experiment", "sharding", "normalise", "streams", "lm", "meters"),
        *("trained", "pursued", "workdir"),
    },
    "replacement": {"lm", "meters", "trained", "workdir"},
    "attribution": {"types", "lm", "ops"},
    "similarity": {"normalise", "ops", "streams", "feed", "trained", "workdir"},
    "pursued": {"types", "sharding", "ops", "experiment", "trained"},
    "convert": {"types", "normalise", "dictionaries", "ops", "trained"},
    "interop": {"trained"},
    "fit": {"scaling", "workdir"},
    "compare": {"workdir"},
    "export": {"interop", "trained", "workdir"},
    "report": {"trained", "streams", "lm", "checkpoint", "workdir", "report"},
}
"""Room -> rooms it may import. `cli` and `__init__` may import all."""


def imported(file: Path) -> set[str]:
    """Our modules that a file imports, dotted, without the package's name."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.removeprefix("dictlearn.") for name in found if name.startswith("dictlearn.")}


def room(file: Path) -> str:
    return file.relative_to(PACKAGE).with_suffix("").parts[0]


def test_every_import_follows_the_arrows():
    wrong = []
    for file in sorted(PACKAGE.rglob("*.py")):
        where = room(file)
        if where in ("cli", "__init__"):
            continue
        assert where in MAY, f"{where} has no place in the layers yet"
        for name in imported(file):
            if name.split(".")[0] not in MAY[where]:
                wrong.append(f"{file.relative_to(PACKAGE)} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_variants_import_no_other_variant():
    for file in (PACKAGE / "dictionaries").glob("[a-z]*.py"):
        for name in imported(file):
            assert not name.startswith("dictionaries.") or "._" in name, f"{file.name}: {name}"


def test_only_placement_names_a_mesh_axis():
    allowed = {"sharding.py", "ops/topk/exact.py", "ops/sparse/rows.py"}
    placing = {"jax.sharding.PartitionSpec", "jax.sharding.NamedSharding", "jax.shard_map"}
    for file in sorted(PACKAGE.rglob("*.py")):
        where, text = str(file.relative_to(PACKAGE)), file.read_text()
        if where not in allowed:
            assert not any(name.split(".")[-1] in text for name in placing), where


def test_files_stay_small():
    long = {
        str(f.relative_to(PACKAGE)): n
        for f in PACKAGE.rglob("*.py")
        if (n := len(f.read_text().splitlines())) > 320
    }
    assert not long, f"draw a wall: {long}"
