"""A new family is one new file: dropped into the folder, it computes what transformers computes."""

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


def dropped(folder, right="", wrong=""):
    text = SEED_OSS.replace(right, wrong)
    assert (text == SEED_OSS) == (right == wrong)
    return drop_in(folder, {"lm/families/seed_oss": text}, SUITE, "seed_oss")["seed_oss"]


def test_one_dropped_in_file_passes_conformance_untouched(tmp_path):
    found = dropped(tmp_path)
    assert (found.passed, found.failed) == ({PARITY, SWITCHES}, set()), found.log


def test_a_family_that_overlooks_a_switch_is_caught(tmp_path):
    found = dropped(tmp_path, "bias_o=out)", "bias_o=False)")
    assert (found.passed, found.failed) == ({PARITY}, {SWITCHES}), found.log
