"""A new variant is one new file: dropped into the folder, it passes conformance untouched."""

import pytest

from tests.dropin import drop_in

VARIANT = '''
"""AbsTopK: the k pre-activations of largest magnitude, with their signs (a test's variant)."""

import jax.numpy as jnp
from jax import lax

from dictlearn.dictionaries import _linear
from dictlearn.ops.sparse import coding
from dictlearn.ops.topk.exact import top_k
from dictlearn.types import Codes, Dictionary, Out


class AbsTopK(Dictionary):
    d_in: int
    n_latents: int
    k: int
    d_out: int | None = None

    def setup(self):
        _linear.declare(self)

    def encode(self, x_BD):
        return self._codes(_linear.centre(self, x_BD))[0]

    def decode(self, codes):
        return _linear.decode(self, codes)

    def __call__(self, x_BD, dead_F):
        codes, pre_BF = self._codes(_linear.centre(self, x_BD))
        return Out(self.decode(codes), codes, pre_BF)

    def _codes(self, x_BD):
        pre_BF = lax.stop_gradient(x_BD @ self.W_enc_FD.T + self.b_enc_F)
        _, idx_BK = top_k(jnp.abs(pre_BF), self.k)
        val_BK = jnp.take_along_axis(pre_BF, idx_BK, axis=1)
        val_BK = coding.select(val_BK, idx_BK, x_BD, self.W_enc_FD, self.b_enc_F)
        return Codes(val_BK, idx_BK), pre_BF
'''

SUITE = "tests/dictionaries/test_conformance.py"


def test_one_dropped_in_file_passes_conformance_untouched(tmp_path):
    found = drop_in(tmp_path, "dictionaries", VARIANT, SUITE)
    assert found.passed, found.log
    assert not found.failed, found.log


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("jnp.abs(pre_BF), self.k)", "jnp.abs(pre_BF) + jnp.abs(pre_BF).max(0), self.k)")],
)
def test_a_variant_that_looks_at_other_tokens_is_caught(tmp_path, right, wrong):
    assert right in VARIANT
    text = VARIANT.replace(right, wrong)
    found = drop_in(tmp_path, "dictionaries", text, SUITE, chosen="dropped_in and per_token")
    assert found.failed == {"test_encoding_is_per_token"}, found.log
