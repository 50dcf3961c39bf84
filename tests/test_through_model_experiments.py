"""The experiments through the language model run, small, on one that is random; their readings are those
of the runs."""

import json
from pathlib import Path

import pytest

from dictlearn import experiment
from experiments import e2e_frontier, gsae, transcoder_vs_sae
from tests.streams.language import SIZES, write_lm, write_text


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
    with pytest.raises(ValueError, match=r"takes no 'large'; there are .*smoke"):
        module.get_config("large")


def test_a_score_between_two_points_of_a_curve_has_an_l0_between_theirs():
    points = [(8.0, 0.8), (32.0, 0.9)]
    assert e2e_frontier.l0_at(points, 0.85) == pytest.approx(16.0)
    assert e2e_frontier.l0_at(points, 0.95) is None


def test_gradient_saes_are_measured_with_and_without_the_gradient(tmp_path, monkeypatch):
    own = gsae.get_config
    small = {"harvest": {"text": str(write_text(tmp_path / "text.txt")), **SIZES, "n_tokens": 400}}
    small["harvest"]["taps"] = ("resid.1", "grad.resid.1")
    small["model"] = {"name": "toy", "path": str(write_lm(tmp_path))}
    small |= {
        "dictionary": {"n_latents": 24, "k": 2, "aux_k": 4},
        "stream": {"tap": "resid.1", "block_rows": 1},
    }

    def get_config(size, folder):
        config = own(size, folder)
        for name, subtree in small.items():
            config[name].update(subtree)
        return config

    for name, value in {
        "get_config": get_config,
        "TAP": "resid.1",
        "SLOPE": "grad.resid.1",
    }.items():
        monkeypatch.setattr(gsae, name, value)
    found = gsae.main(str(tmp_path), "smoke")
    topk, weighted = (found[f"gsae_n24_{i}"] for i in (0, 1))
    same, other = (one["gradient"]["kl"] / one["plain"]["kl"] for one in (topk, weighted))
    assert same == pytest.approx(1, abs=1e-3), "beta is 0"
    assert abs(other - 1) > 1e-2
    assert json.loads(Path(tmp_path, "gradient.json").read_text()).keys() == found.keys()
