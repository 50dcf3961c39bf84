"""A new family is one new file: dropped into the folder, it computes what transformers computes."""

import pytest

from tests.dropin import drop_in

SEED_OSS = '''
"""Seed-OSS: Llama with biases of queries, keys and values, and switches for the others."""

from dictlearn.lm.families._config import Config
from dictlearn.lm.families._llama import NAMES, llama_spec
from dictlearn.lm.spec import Spec

__all__ = ["NAMES", "spec"]


def spec(config: Config) -> Spec:
    bias, out = config.flag("attention_bias", True), config.flag("attention_out_bias", False)
    return llama_spec(config, bias_qkv=bias, bias_o=out)
'''

SUITE = "tests/lm/test_conformance.py"
PARITY = "test_it_computes_what_transformers_computes"
SWITCHES = "test_every_switch_is_followed_or_refused_by_its_name"


SMOLLM3 = SEED_OSS.replace("Seed-OSS", "SmolLM3").replace("bias_o=out", "bias_o=False")
"""Another Llama: its one switch of biases is also the output's, which is overlooked here."""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    assert SMOLLM3.count("bias_o=False") == 1
    files = {"lm/families/seed_oss": SEED_OSS, "lm/families/smollm3": SMOLLM3}
    return drop_in(tmp_path_factory.mktemp("new"), files, SUITE, "seed_oss or smollm3")


def test_one_dropped_in_file_passes_conformance_untouched(found):
    right = found["seed_oss"]
    assert (right.passed, right.failed) == ({PARITY, SWITCHES}, set()), right.log


def test_a_family_that_overlooks_a_switch_is_caught(found):
    wrong = found["smollm3"]
    assert (wrong.passed, wrong.failed) == ({PARITY}, {SWITCHES}), wrong.log
