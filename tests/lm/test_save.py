"""A model that is saved is loaded as itself, and one that the folder could not say is refused."""

import dataclasses

import jax
import numpy as np
import pytest

from dictlearn.lm import load
from dictlearn.lm.save import save
from tests.lm import toy


@pytest.mark.parametrize("changes", [{}, {"tied": False}, {"bias_qkv": True, "bias_o": True}])
def test_what_is_saved_loads_as_itself(tmp_path, changes):
    lm = toy.toy_lm(spec=dataclasses.replace(toy.SPEC, rope_base=500.0, **changes))
    save(lm, tmp_path / "model")
    found = load("toy", tmp_path / "model")
    assert (found.spec, found.separator) == (lm.spec, lm.separator)
    jax.tree.map(np.testing.assert_array_equal, dict(found.params), dict(lm.params))


def test_a_decoder_that_is_no_llama_is_refused_by_what_differs(tmp_path):
    lm = toy.toy_lm(spec=dataclasses.replace(toy.SPEC, qk_norm=True))
    with pytest.raises(ValueError, match=r"'qk_norm': True"):
        save(lm, tmp_path / "model")
    assert not (tmp_path / "model").exists()
