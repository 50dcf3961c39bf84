"""Workdirs with as much of a run as laws read."""

import json

from dictlearn.runs.workdir import write_json

D_IN, TOKENS = 8, 3000.0


def workdir(path, dictionaries, tokens: float | None = TOKENS):
    """A workdir of dictionaries [(n_latents, k, loss)]; a hyperparameter that is None is not there."""
    path.mkdir()
    records = {}
    for n, k, loss in dictionaries:
        own = {"d_in": D_IN, "d_out": None, "n_latents": n, "k": k}
        own = {key: value for key, value in own.items() if value is not None or key == "d_out"}
        hparams = {"dictionary": own, "seed": 0}
        records[f"d{len(records)}"] = {"label": "d", "hparams": hparams, "fvu": loss}
    write_json(path / "metrics.json", records)
    if tokens:
        line = {"step": 1, "tokens": tokens} | {name: {} for name in records}
        (path / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    return path
