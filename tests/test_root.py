"""The root of the package: the names that users import, each loaded when it is first used."""

import subprocess
import sys

import pytest

import dictlearn

HEAVY = ("jax", "flax", "optax", "orbax", "grain", "scipy", "matplotlib", "tokenizers")


@pytest.mark.parametrize("name", dictlearn.__all__)
def test_every_name_is_there(name):
    assert getattr(dictlearn, name).__name__.rpartition(".")[2] == name


def test_a_function_is_not_hidden_by_its_file():
    """`import dictlearn.sweep` would set `dictlearn.sweep` to the file."""
    import dictlearn.sweep as imported

    assert dictlearn.sweep is imported
    assert callable(dictlearn.sweep)


def test_importing_the_package_imports_nothing_heavy():
    code = f"import sys, dictlearn; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_command_line_imports_neither_matplotlib_nor_scipys_optimisers():
    """Each takes half a second, and most verbs need neither."""
    code = (
        "import sys, dictlearn.cli.verbs; print({'matplotlib', 'scipy.optimize'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="trainer"):
        _ = dictlearn.trainer
