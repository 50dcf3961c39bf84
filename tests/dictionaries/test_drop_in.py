"""A new structure or activation is one new file: dropped into its folder, it passes conformance untouched."""

import pytest

from tests.dropin import drop_in

STRUCTURE = '''
"""Halves: the second half of the latents alone reconstructs too (a test's structure)."""

from dictlearn.dictionaries._linear import Linear


class Halves(Linear):
    share: float = 0.5

    def _parts(self, entries, val, atoms):
        return entries.decode_nested(val, atoms, (self.n_latents // 2, self.n_latents))

    def _part_weights(self):
        return [self.share]
'''

ACTIVATION = '''
"""Plus: what is positive fires, at a cost of its square (a test's activation)."""

import jax
import jax.numpy as jnp

from dictlearn.dictionaries._activations import Activation, Many, Values
from dictlearn.types import Codes, Scalar


class Plus(Activation):
    sparsity: Scalar

    def choose(self, pre_BF, weight, dead_F):
        f_BF = jax.nn.relu(pre_BF)
        return Many(Codes(f_BF), f_BF, pre_BF, self.n_latents)

    def values(self, entries, weight):
        f = jnp.where(entries.on, entries.z, 0)
        return Values(f, self.sparsity * (f**2).sum(-1))

    def infer(self, pre_BF, weight):
        return Codes(jax.nn.relu(pre_BF))
'''

RIGHT = "return Codes(jax.nn.relu(pre_BF))"
FILES = {
    "dictionaries/halves": STRUCTURE,
    "dictionaries/_activations/plus": ACTIVATION,
    "dictionaries/_activations/peeking": ACTIVATION.replace(
        RIGHT, "return Codes(jax.nn.relu(pre_BF - pre_BF.mean(0)))"
    ),
}
SUITE = "tests/dictionaries/test_conformance.py"


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    chosen = "halves or plus or peeking and per_token"
    return drop_in(tmp_path_factory.mktemp("new"), FILES, SUITE, chosen)


@pytest.mark.parametrize("name", ["halves", "plus"])
def test_one_dropped_in_file_passes_conformance_untouched(name, found):
    passed, failed, log = found[name]
    assert "test_training_lowers_the_loss_and_moves_every_parameter" in passed, log
    assert not failed, log


def test_an_activation_that_looks_at_other_tokens_is_caught(found):
    assert RIGHT in ACTIVATION
    assert found["peeking"].failed == {"test_encoding_is_per_token"}, found["peeking"].log
