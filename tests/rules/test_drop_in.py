"""A new rule is one new file: dropped into the folder, it passes conformance untouched."""

from tests.dropin import drop_in

RULE = '''
"""Steps of one length against the sign of the gradient (a test's rule)."""

import jax
import jax.numpy as jnp
import optax

from dictlearn.types import Scalar

KIND = "optimiser"


def dropped_in(lr: Scalar = 1e-3) -> optax.GradientTransformation:
    def update(updates, state, params=None):
        return jax.tree.map(lambda leaf: -lr * jnp.sign(leaf), updates), state + 1

    return optax.GradientTransformation(lambda params: jnp.zeros((), jnp.int32), update)
'''

SUITE = "tests/rules/test_conformance.py"
CHECK = "compiles_once_and_resumes_to_the_bit"


def test_one_dropped_in_rule_passes_conformance_untouched(tmp_path):
    found = drop_in(tmp_path, "rules", RULE, SUITE)
    assert len(found.passed) == 4, found.log
    assert not found.failed, found.log


def test_a_rule_whose_state_changes_its_type_is_caught(tmp_path):
    text = RULE.replace("state + 1", "state + 1.0")
    assert text != RULE
    found = drop_in(tmp_path, "rules", text, SUITE, chosen=f"dropped_in and {CHECK}")
    assert found.failed == {f"test_it_keeps_the_tree_and_the_types_and_{CHECK}"}, found.log
