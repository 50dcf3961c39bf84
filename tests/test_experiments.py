"""Every experiment is a config that is read whole at every size, and no more than a config."""

import json
from pathlib import Path

import numpy as np
import pytest

from dictlearn import cli, experiment
from dictlearn.cli.config import read

FOLDER = Path(__file__).parents[1] / "experiments"
FILES = {file.stem: file for file in sorted(FOLDER.glob("*.py"))}
MORE = {
    "gba_recovery": ("balanced", "settings"),
    "benchmark": ("pod", "smoke,topk,itda"),
    "dark_matter": ("pod",),
    "e2e_frontier": ("local", "local,smoke", "pod"),
    "itda_layers": ("minilm,levels15,resid.5",),
    "frontier": ("pod", "smoke,topk,gated"),
    "itda_vs_sae": ("topk", "itda,smoke"),
    "compute_optimal": ("pod",),
    "gsae": ("pod",),
    "k_sparse_mnist": ("pod",),
    "mdl_mnist": ("pod",),
    "layer_groups": ("pod", "14", "smoke,2,5"),
    "sae_track": ("400", "smoke,20"),
    "feature_splitting": ("pod",),
    "shift": ("pod",),
    "tokens_vs_width": ("pod",),
    "smollm2_circuits": ("pod", "whole,skip", "layers=6", "clt,smoke"),
    "subject_verb": ("pod", "resid.24", "pod,mlp_out.7", "smoke,resid.16"),
    "topk_scaling": ("pod",),
    "transcoder_vs_sae": ("sae", "pod,layer=3", "sae,smoke"),
}
"""Arguments of an experiment beside none and `smoke`."""
KINDS = (
    *(
        "dark_matter",
        "e2e_frontier",
        "gba_smollm2",
        "gsae",
        "itda_vs_sae",
        "k_sparse_mnist",
        "mdl_mnist",
        "quickstart",
    ),
    "transcoder_vs_sae",
)
"""Experiments whose sweeps decide no shape but the width: each kind of each width is one program."""
every = pytest.mark.parametrize("name", FILES)


@every
def test_every_config_is_read_whole(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("activations.npy", np.zeros((10, 576), np.float32))
    for arg in ("", "smoke", *MORE.get(name, ())):
        config = read(FILES[name], arg, [])
        width = 576 * config.get("dictionary", {}).get("sources", 1)
        d_out = width if "target" in config["stream"] else None
        programs = experiment.programs(config, width, d_out)
        kinds = {(m.label, p.n_latents) for p in programs for m in p.members}
        assert name not in KINDS or len(programs) == len(kinds), arg


@every
def test_an_unknown_word_is_answered_with_those_there_are(name):
    if name == "from_npy":
        pytest.skip("any word is a path, and one that is not there is answered by itself")
    with pytest.raises(ValueError, match="'large'") as caught:
        read(FILES[name], "large", [])
    assert "smoke" in str(caught.value)


@every
def test_an_experiment_stays_a_config(name):
    assert len(FILES[name].read_text().splitlines()) <= 100


def test_what_an_experiment_asks_is_answered_when_it_has_trained(tmp_path):
    """The analysis reads atoms and the meter reads them too: the mean of two seeds is the same."""
    config = f"--config={FILES['gba_recovery']}:smoke"
    assert cli.main(["train", config, f"--workdir={tmp_path}", "--config.steps=2"]) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    found = json.loads((tmp_path / "analyses" / "recovery.json").read_text())["values"]["settings"]
    assert [row["varied"]["dictionary.density_high"] for row in found] == [0.01, 0.09, 0.3]
    for row in found:
        wanted = row["varied"]["dictionary.density_high"]
        of = lambda record: record["hparams"]["dictionary"]["density_high"]
        seeds = [record for record in metrics.values() if of(record) == wanted]
        assert len(seeds) == row["seeds"] == 2
        for key in ("recovery_0.8", "recovery_0.9", "l0"):
            assert row[key] == pytest.approx(sum(record[key] for record in seeds) / 2)
