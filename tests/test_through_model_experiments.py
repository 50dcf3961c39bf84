"""The experiments through the language model say what their callables take, at every size."""

import pytest

from dictlearn import experiment
from experiments import e2e_frontier, gsae, transcoder_vs_sae


@pytest.mark.parametrize("size", ["", "smoke", "pod"])
def test_every_config_is_one_that_its_callables_take(size):
    for kind in transcoder_vs_sae.KINDS:
        config = transcoder_vs_sae.get_config(f"{kind},layer=3,{size}").to_dict()
        d_out = None if kind == "sae" else 576
        programs = experiment.programs(config, 576, d_out)
        assert {p.key.split("_n")[0] for p in programs} == set(config["members"])
        assert "mlp_out.3" in config["harvest"]["taps"]
    for kind in e2e_frontier.KINDS:
        config = e2e_frontier.get_config(f"{kind},{size}").to_dict()
        (ks,) = {len(p.members) for p in experiment.programs(config, 576, None)}
        assert ks == len(e2e_frontier.SIZES[size]["k"])
    (program,) = experiment.programs(gsae.get_config(size).to_dict(), 576, None)
    assert len(program.members) == len(gsae.SIZES[size]["beta"])


@pytest.mark.parametrize("module", [transcoder_vs_sae, e2e_frontier, gsae])
def test_an_unknown_word_is_answered_with_those_there_are(module):
    with pytest.raises(ValueError, match=r"'large'.*smoke"):
        module.get_config("large")
