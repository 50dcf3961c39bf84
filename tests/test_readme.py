"""The README's Python is run as it stands."""

import re
from pathlib import Path

import numpy as np

from dictlearn import cli

ROOT = Path(__file__).parents[1]


def test_every_python_block_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.random.default_rng(0).normal(size=(2000, 64)).astype(np.float32))
    config = f"--config={ROOT / 'experiments' / 'from_npy.py'}:smoke,x.npy"
    assert cli.main(["train", config, "--workdir=runs/mine"]) == 0
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 3
    names: dict = {}
    for block in blocks:
        exec(block, names)
    assert names["y"].shape == (1024, 64)
    assert float(names["info"]["explained_variance"]) > 0.1
    said = capsys.readouterr().out
    assert "topk_n128_0" in said
    assert " Paris" in said
