"""The numbers of other libraries under `compat`, compared with the libraries: their own functions read
activations that are saved here, in batches of unequal numbers of tokens, and a dictionary of ours.

    python benchmarks/compat.py --saelens=PYTHON --sae_bench=PYTHON --dictionary_learning=PYTHON

PYTHON is the interpreter of an environment with torch 2.13.0 and the library: sae-lens 6.54.12; sae-bench 0.6.0
without its dependencies, with sae-lens and tabulate; dictionary-learning 0.1.0. Activations are drawn, so that
no language model is needed. The last column is the difference of theirs from ours, over ours.
"""

import argparse
import tempfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from tools_common import ran, table

from dictlearn import dictionaries, interop, meters
from dictlearn.meters import Reading, Subject
from dictlearn.runs.trained import Trained

D, F, BATCHES, PROMPTS, T = 48, 192, 6, 4, 32
MEAN = 1.5
"""Of every dimension: about zero all formulas of the explained variance agree."""

ACTIVATIONS = """
import numpy, torch
from types import SimpleNamespace
rows, tokens = (torch.tensor(numpy.load(f"{home}/{name}.npy")) for name in ("rows", "tokens"))
model = SimpleNamespace(run_with_cache=lambda batch, **_: (None, {"hook": rows[batch]}))
batches = iter(tokens)
store = SimpleNamespace(get_batch_tokens=lambda _: next(batches))
chosen = dict(
    n_batches=len(tokens), compute_l2_norms=True, compute_sparsity_metrics=True,
    compute_variance_metrics=True, compute_featurewise_density_statistics=True, eval_batch_size_prompts=1,
    model_kwargs={})
"""

SAELENS = """
from sae_lens import SAE
from sae_lens.evals import get_sparsity_and_variance_metrics
from sae_lens.training.activation_scaler import ActivationScaler
sae = SAE.load_from_disk(f"{home}/saelens", device="cpu")
sae.cfg.metadata.hook_name, sae.cfg.metadata.hook_head_index = "hook", None
with torch.no_grad():
    found = get_sparsity_and_variance_metrics(
        sae, model, store, ActivationScaler(), ignore_tokens=ignored, **chosen)[0]
"""

SAE_BENCH = """
from sae_lens import SAE
from sae_bench.evals.core.main import get_sparsity_and_variance_metrics
sae = SAE.load_from_disk(f"{home}/saelens", device="cpu")
sae.cfg.hook_name, sae.cfg.hook_layer, sae.cfg.hook_head_index = "hook", 0, None
with torch.no_grad():
    found = get_sparsity_and_variance_metrics(
        sae, model, store, ignore_tokens=set(ignored), **chosen)[0]
"""

DICTIONARY_LEARNING = """
import sys, unittest.mock
# These serve the harvest of activations alone, and need not be installed.
sys.modules |= {name: unittest.mock.MagicMock() for name in ("nnsight", "datasets", "zstandard")}
from dictionary_learning import utils
import dictionary_learning.evaluation as evaluation
evaluation.ActivationBuffer = evaluation.NNsightActivationBuffer = ()
one = utils.load_dictionary(f"{home}/dictionary_learning", "cpu")[0]
kept = (rows[batch[~torch.isin(batch, torch.tensor(ignored))]] for batch in tokens)
found = evaluation.evaluate(one, kept, n_batches=len(tokens))
"""

SCRIPTS = {"saelens": SAELENS, "sae_bench": SAE_BENCH, "dictionary_learning": DICTIONARY_LEARNING}


def drawn() -> tuple[Trained, np.ndarray, np.ndarray, list[int]]:
    """(a dictionary, rows [N, D], the index of each token's row [batches, prompts, T], the tokens that do not
    count, more of them in every batch)."""
    random = np.random.default_rng(0)
    module = dictionaries.make("relu", d_in=D, n_latents=F, sparsity=0.1)
    atoms_FD = random.normal(size=(F, D)).astype("f")
    atoms_FD /= np.linalg.norm(atoms_FD, axis=1, keepdims=True)
    params = {"W_enc_FD": 0.3 * atoms_FD, "W_dec_FD": atoms_FD, "b_enc_F": np.full(F, -0.15, "f")}
    params["b_dec_D"] = np.full(D, MEAN, "f")
    tokens = np.arange(BATCHES * PROMPTS * T).reshape(BATCHES, PROMPTS, T)
    rows_ND = MEAN + random.normal(size=(tokens.size, D)) * random.gamma(2.0, 0.7, (tokens.size, 1))
    taken = [random.permutation(batch.ravel())[: 20 * n] for n, batch in enumerate(tokens)]
    kept = {name: jnp.asarray(value) for name, value in params.items()}
    return (
        Trained(module, {"params": kept}),
        rows_ND.astype("f"),
        tokens,
        np.concatenate(taken).tolist(),
    )


def ours(trained: Trained, rows_ND, tokens, ignored) -> dict[str, dict[str, float]]:
    """What we say in the place of each library."""
    meter = meters.make("reconstruction", Subject(trained.module), compat=True)
    totals = meter.init()
    for batch in tokens.reshape(len(tokens), -1):
        x_BD, mask_B = rows_ND[batch], ~np.isin(batch, ignored)
        codes = trained.encode(x_BD)
        reading = Reading(x_BD, trained.reconstruct(x_BD), codes, mask_B)
        totals = meter.update(totals, meter.measure(reading))
    said = meter.result(totals)
    compat = said.pop("compat")
    bias = {"relative_reconstruction_bias": compat["saebench"]["relative_reconstruction_bias"]}
    return {
        "saelens": {**said, "mse": said["sse_per_token"], **bias},
        "sae_bench": {**said, **compat["saebench"]},
        "dictionary_learning": compat["dictionary_learning"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for library in SCRIPTS:
        parser.add_argument(f"--{library}", metavar="PYTHON")
    given = {name: python for name, python in vars(parser.parse_args()).items() if python}
    trained, rows_ND, tokens, ignored = drawn()
    said = ours(trained, rows_ND, tokens, ignored)
    print("| library | measure | there | here | difference |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        np.save(home / "rows.npy", rows_ND)
        np.save(home / "tokens.npy", tokens)
        for format in ("saelens", "dictionary_learning"):
            interop.save(trained, home / format, format)
        for library, python in given.items():
            found = ran(python, ACTIVATIONS + SCRIPTS[library], home, ignored=ignored)
            table(
                library,
                found,
                {key: said[library][key] for key in sorted(said[library].keys() & found.keys())},
            )


if __name__ == "__main__":
    main()
