"""Every format on real activations: L0 and explained variance of trained dictionaries, before and after a file.

    python benchmarks/real_formats.py

Residual stream of SmolLM2-135M after block 9, 8,000 tokens of Wikipedia, 2,048 of them held out; 768 latents,
150 steps of 512 tokens. Each kind is written in every format that holds it, loaded, and measured again on the
held-out tokens.
"""

import tempfile
from pathlib import Path

import numpy as np

from dictlearn import cli, dense, interop, restore
from dictlearn.analyses import Subject
from dictlearn.runs.trained import Trained

KINDS = ("relu", "topk", "batch_topk", "jumprelu", "gated", "matryoshka")
LATENTS, HELD_OUT = 768, 2048

CONFIG = f"""
from ml_collections import ConfigDict

KINDS = {KINDS!r}


def get_config(arg=""):
    target = {{"penalty": "target_l0", "target_l0": 16.0, "bandwidth": 0.05, "threshold_start": 0.05}}
    known = {{name: {{"sparsity": 0.1}} for name in ("relu", "gated", "jumprelu")}}
    known["jumprelu"] |= target
    of = lambda name: {{"name": name, **known.get(name, {{"k": 16}})}}
    return ConfigDict({{
        "seed": 0, "steps": 150, "batch_size": 512, "log_every": 50,
        "model": {{"name": "smollm2"}},
        "harvest": {{"taps": ("resid.9",), "text": "wiki", "n_tokens": 8_000, "sequence_length": 64}},
        "stream": {{"name": "store", "path": "activations", "normalise": "unit_mean_sq"}},
        "dictionary": {{"n_latents": {LATENTS}}},
        "members": {{name: {{"dictionary": of(name)}} for name in KINDS}},
        "objective": {{"name": "fvu"}},
        "rule": {{"name": "adam", "lr": 4e-3, "warmup_steps": 10}},
        "evaluate": {{"n_tokens": 512, "n_sequences": 0}},
    }})
"""


def measured(trained: Trained, x_BD: np.ndarray) -> tuple[float, float]:
    """(L0, explained variance) on raw activations."""
    codes_BF = np.asarray(dense(trained.encode(x_BD), trained.module.n_latents))
    error_BD = np.asarray(trained.reconstruct(x_BD), np.float64) - x_BD
    total = ((x_BD - x_BD.mean(0)) ** 2).sum()
    return (codes_BF != 0).sum(1).mean(), 1 - (error_BD**2).sum() / total


def trained_here(home: Path) -> tuple[list[Trained], np.ndarray]:
    """The dictionaries, and raw held-out activations."""
    (home / "config.py").write_text(CONFIG)
    words = [f"--config={home / 'config.py'}", f"--workdir={home / 'run'}"]
    words.append(f"--config.stream.path={home / 'activations'}")
    assert [cli.main([verb, *words]) for verb in ("harvest", "train")] == [0, 0]
    return restore(home / "run"), Subject.of(home / "run").sample(HELD_OUT).astype(np.float32)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        found, x_BD = trained_here(home)
        print("\n| kind | L0 | explained | formats | largest change of L0 | of explained |")
        print("|---|---|---|---|---|---|")
        for trained in found:
            l0, explained = measured(trained, x_BD)
            folded, held, changes = trained.folded(), [], []
            for format in interop.names():
                path = home / f"{trained.name}-{format}{interop.format_of(format).SUFFIX}"
                try:
                    interop.save(folded, path, format)
                except ValueError:
                    continue
                again = measured(interop.load(path), x_BD)
                held.append(format)
                changes.append((abs(again[0] - l0), abs(again[1] - explained)))
            worst = np.max(changes, axis=0)
            print(
                f"| {trained.name} | {l0:.3f} | {explained:.4f} | {', '.join(held)} "
                f"| {worst[0]:.1e} | {worst[1]:.1e} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
