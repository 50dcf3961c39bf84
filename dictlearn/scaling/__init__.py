"""The scaling law of a run: from its metrics to `scaling.json` and `scaling.png`."""

from collections.abc import Mapping
from pathlib import Path

from dictlearn.runs.workdir import write_json
from dictlearn.scaling.draw import draw
from dictlearn.scaling.joint import joint_law


def fit_run(metrics: Mapping[str, Mapping], path: Path) -> dict:
    """Fits L(n, k) to the held-out normalised MSE (`fvu`) of every dictionary of a run.

    Args:
        metrics: the records of metrics.json.
        path: the workdir, into which scaling.json and scaling.png are written.

    Returns:
        The content of scaling.json.

    Raises:
        ValueError: for dictionaries without n_latents and k, or too few of them for the law.
    """
    runs = []
    for name, record in metrics.items():
        own = record["hparams"]["dictionary"]
        if "k" not in own:
            raise ValueError(f"{name} has no k; the law L(n, k) is fitted to a sweep over both.")
        cell = {"n_latents": own["n_latents"], "k": own["k"], "seed": record["hparams"]["seed"]}
        runs.append({**cell, "loss": record["fvu"]})
    found = joint_law(runs)
    write_json(path / "scaling.json", {**found, "loss": "fvu", "runs": runs})
    draw(runs, found, path / "scaling.png")
    return found
