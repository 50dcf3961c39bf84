"""A new variant is one new file: dropped into the folder, it passes conformance untouched."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

VARIANT = '''
"""AbsTopK: the k pre-activations of largest magnitude, with their signs (a test's variant)."""

import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from dictlearn.dictionaries import _linear
from dictlearn.ops import sparse
from dictlearn.ops.topk import top_k
from dictlearn.types import Codes, Out


class AbsTopK(nn.Module):
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
        val_BK = sparse.select(val_BK, idx_BK, x_BD, self.W_enc_FD, self.b_enc_F)
        return Codes(val_BK, idx_BK), pre_BF
'''

DROP_IN = """
import sys
import pytest


class DropIn:
    def pytest_sessionstart(self):
        import dictlearn.dictionaries

        dictlearn.dictionaries.__path__.append(sys.argv[1])


options = ["-k", sys.argv[2], "-p", "no:cacheprovider", sys.argv[3]]
sys.exit(pytest.main(options, plugins=[DropIn()]))
"""


def conformance(tmp_path, text, chosen="dropped_in"):
    (tmp_path / "dropped_in.py").write_text(text)
    suite = ROOT / "tests" / "dictionaries" / "test_conformance.py"
    command = [sys.executable, "-c", DROP_IN, str(tmp_path), chosen, str(suite)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_one_dropped_in_file_passes_conformance_untouched(tmp_path):
    found = conformance(tmp_path, VARIANT)
    assert found.returncode == 0, found.stdout[-3000:]
    assert "10 passed" in found.stdout


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("jnp.abs(pre_BF), self.k)", "jnp.abs(pre_BF) + jnp.abs(pre_BF).max(0), self.k)")],
)
def test_a_variant_that_looks_at_other_tokens_is_caught(tmp_path, right, wrong):
    assert right in VARIANT
    text = VARIANT.replace(right, wrong)
    found = conformance(tmp_path, text, "dropped_in and per_token")
    assert found.returncode == 1, found.stdout[-3000:]
    assert "test_encoding_is_per_token" in found.stdout
