"""Other libraries' files, tested with those libraries. Random dictionaries that they write are read and written
back here, and read there again. The results are the largest differences of codes and reconstructions, as shares
of the largest value.

    python benchmarks/formats.py --saelens=PYTHON --sparsify=PYTHON --dictionary_learning=PYTHON

PYTHON is the interpreter of an environment in which that library is installed, with torch. Libraries: sae-lens
6.54.12, eai-sparsify 1.3.3, dictionary-learning 0.1.0, openai's sparse_autoencoder, circuit-tracer of
decoderesearch (--circuit_tracer and --circuit_tracer_clt), llamascopium 2.0.0b34 (--llamascopium and
--llamascopium_clt), overcomplete 0.3.0.
"""

import argparse
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from formats_llamascopium import LLAMASCOPIUM, LLAMASCOPIUM_CLT

from dictlearn import dense, interop

D, F, TOKENS = 16, 64, 32

SAELENS = """
import sys, numpy, torch
import sae_lens.saes as saes
from sae_lens import SAE
step, root = sys.argv[1:]
across, raw = dict(d_out=D, apply_b_dec_to_input=False), dict(apply_b_dec_to_input=False)
CASES = {
    "standard": ("StandardSAE", {}), "standard, b_dec not subtracted": ("StandardSAE", raw),
    "standard, layer_norm": ("StandardSAE", dict(normalize_activations="layer_norm")),
    "topk": ("TopKSAE", dict(k=5)),
    "topk, rescaled": ("TopKSAE", dict(k=5, rescale_acts_by_decoder_norm=True)),
    "abstopk": ("AbsTopKSAE", dict(k=5)), "jumprelu": ("JumpReLUSAE", {}), "gated": ("GatedSAE", {}),
    "jumprelu, constant norm": ("JumpReLUSAE", dict(normalize_activations="constant_norm_rescale")),
    "transcoder": ("Transcoder", across), "skip_transcoder": ("SkipTranscoder", across),
    "jumprelu_transcoder": ("JumpReLUTranscoder", across),
    "jumprelu_skip_transcoder": ("JumpReLUSkipTranscoder", across),
}

def make(kind, fields):
    config = getattr(saes, kind + "Config")(d_in=D, d_sae=F, dtype="float32", device="cpu", **fields)
    return getattr(saes, kind)(config)

save = lambda one, path: one.save_model(path)
load = lambda path: SAE.load_from_disk(path, device="cpu")
results = lambda one, x: (one.encode(x), one(x))
"""

SPARSIFY = """
import sys, numpy, torch
from sparsify import SparseCoder, SparseCoderConfig
step, root = sys.argv[1:]
sizes = dict(k=4, num_latents=F)
CASES = {
    "topk": (None, sizes), "groupmax": (None, sizes | dict(activation="groupmax")),
    "transcoder": (None, sizes | dict(transcode=True)),
    "skip transcoder": (None, sizes | dict(transcode=True, skip_connection=True)),
}

def make(kind, fields):
    return SparseCoder(D, SparseCoderConfig(**fields), device="cpu", dtype=torch.float32)

save = lambda one, path: one.save_to_disk(path)
load = lambda path: SparseCoder.load_from_disk(path, device="cpu")

def results(one, x):
    found = one(x)
    codes = torch.zeros(len(x), F).scatter_add_(1, found.latent_indices, found.latent_acts)
    return codes, found.sae_out
"""

DICTIONARY_LEARNING = """
import json, os, sys, unittest.mock
# These serve the harvest of activations alone, and need not be installed.
sys.modules |= {name: unittest.mock.MagicMock() for name in ("nnsight", "datasets", "zstandard")}
import numpy, torch
from dictionary_learning import utils
step, root = sys.argv[1:]
k = dict(k=5)
CASES = {
    "AutoEncoder": ("AutoEncoder", {}), "AutoEncoderNew": ("AutoEncoderNew", {}),
    "GatedAutoEncoder": ("GatedAutoEncoder", {}), "JumpReluAutoEncoder": ("JumpReluAutoEncoder", {}),
    "AutoEncoderTopK": ("AutoEncoderTopK", k), "BatchTopKSAE": ("BatchTopKSAE", k),
    "MatryoshkaBatchTopKSAE": ("MatryoshkaBatchTopKSAE", k | dict(group_sizes=[8, 24, F - 32])),
}

def make(kind, fields):
    one = getattr(utils, kind)(D, F, **fields)
    if "TopK" in kind:
        one.threshold.fill_(0.7)
    return one

def save(one, path):
    os.mkdir(path)
    torch.save(one.state_dict(), f"{path}/ae.pt")
    about = dict(dict_class=type(one).__name__, activation_dim=D, dict_size=F)
    about |= k if "TopK" in about["dict_class"] else {}
    json.dump({"trainer": about}, open(f"{path}/config.json", "w"))

load = lambda path: utils.load_dictionary(path, "cpu")[0]
results = lambda one, x: (one.encode(x), one(x))
"""

OPENAI = """
import sys, unittest.mock
sys.modules |= {name: unittest.mock.MagicMock() for name in ("triton", "triton.language", "blobfile")}
import numpy, torch
from sparse_autoencoder.model import Autoencoder, TopK
step, root = sys.argv[1:]
CASES = {"ReLU.pt": (None, {}), "TopK.pt": (5, dict(normalize=True))}
make = lambda k, fields: Autoencoder(F, D, **fields, **(dict(activation=TopK(k)) if k else {}))
# Its own state dict has k twice, which its loader refuses.
kept = lambda one: {k: leaf for k, leaf in one.state_dict().items() if not k.startswith("activation.")}
save = lambda one, path: torch.save(kept(one), path)
load = lambda path: Autoencoder.from_state_dict(torch.load(path, weights_only=True))

def results(one, x):
    codes, info = one.encode(x)
    return codes, one.decode(codes, info)
"""

CIRCUIT_TRACER = """
import sys, numpy, torch
from circuit_tracer.transcoder.activation_functions import JumpReLU
from circuit_tracer.transcoder.single_layer_transcoder import SingleLayerTranscoder, load_transcoder
step, root = sys.argv[1:]
CASES = {
    f"{kind}{', skip' * skip}.safetensors": (kind, dict(skip_connection=skip))
    for kind in ("relu", "jumprelu") for skip in (False, True)
}

def make(kind, fields):
    activation = torch.relu if kind == "relu" else JumpReLU(torch.zeros(F))
    return SingleLayerTranscoder(D, F, activation, 0, dtype=torch.float32, **fields)

save = lambda one, path: one.to_safetensors(path)
load = lambda path: load_transcoder(path, 0, lazy_encoder=False, lazy_decoder=False)
results = lambda one, x: (one.encode(x), one(x))
"""

CIRCUIT_TRACER_CLT = """
import sys, numpy, torch
from circuit_tracer.transcoder.cross_layer_transcoder import CrossLayerTranscoder, load_clt
step, root = sys.argv[1:]
L = 4
CASES = {kind: (kind, {}) for kind in ("relu", "jump_relu")}
whole = dict(dtype=torch.float32, lazy_decoder=False)
make = lambda kind, _: CrossLayerTranscoder(L, F // L, D // L, kind, **whole)
save = lambda one, path: one.to_safetensors(path)
load = lambda path: load_clt(path, **whole)

def results(one, x):
    layers = x.reshape(len(x), L, -1).transpose(0, 1)
    codes, y = one.encode(layers), one(layers)
    return codes.permute(1, 2, 0).reshape(len(x), -1), y.transpose(0, 1).reshape(len(x), -1)
"""

OVERCOMPLETE = """
import sys, unittest.mock
# It draws figures, with a function that newer Matplotlibs lack.
sys.modules["overcomplete.visualization"] = unittest.mock.MagicMock()
import numpy, torch
from overcomplete import sae
step, root = sys.argv[1:]
points = dict(points=torch.randn(24, D, generator=torch.Generator().manual_seed(1)))
CASES = {
    "SAE.pt": ("SAE", {}), "TopKSAE.pt": ("TopKSAE", dict(top_k=5)), "JumpSAE.pt": ("JumpSAE", {}),
    "RATopKSAE.pt": ("RATopKSAE", dict(top_k=5) | points), "RAJumpSAE.pt": ("RAJumpSAE", points),
}
identity = dict(dictionary_params=dict(normalization="identity"))

def make(kind, fields):
    return getattr(sae, kind)(D, F, **fields)

def save(one, path):
    one.eval()
    known = {} if path.endswith("JumpSAE.pt") else dict(top_k=getattr(one, "top_k", None))
    torch.save({**one.state_dict(), **known}, path)

def load(path):
    state = torch.load(path, weights_only=True)
    state.pop("top_k", None)
    kind, fields = CASES[path.rpartition("/")[2]]
    plain = "dictionary._weights" in state
    fields = {k: v for k, v in fields.items() if k != "points" or not plain} | (identity if plain else {})
    one = getattr(sae, kind.removeprefix("RA") if plain else kind)(D, F, **fields)
    one.load_state_dict(state)
    return one.eval()

results = lambda one, x: (one.encode(x)[1], one(x)[2])
"""

BOTH = """
x = torch.tensor(numpy.load(f"{root}/x.npy"))
for name, (kind, fields) in CASES.items():
    if step == "make":
        one = make(kind, fields)
        torch.manual_seed(0)
        for key, leaf in one.named_parameters():
            leaf.data.copy_(torch.randn_like(leaf) / 2)
            if key.endswith("threshold") and "log" not in key:
                leaf.data.abs_()
        save(one, f"{root}/{name}")
        one = load(f"{root}/{name}")
    else:
        try:
            one = load(f"{root}/ours/{name}")
        except FileNotFoundError:
            continue
    with torch.no_grad():
        codes, y = results(one, x)
    numpy.savez(f"{root}/{name}.{step}.npz", codes=codes.numpy(), y=y.numpy())
"""


def compare(format: str, python: str, script: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        x_BD = np.random.default_rng(0).normal(size=(TOKENS, D)).astype(np.float32)
        np.save(root / "x.npy", x_BD)
        there = lambda step: subprocess.run(
            [python, "-c", f"D, F = {D}, {F}\n{script}{BOTH}", step, folder], check=True
        )
        there("make")
        for path in sorted(path for path in root.iterdir() if path.suffix not in (".npy", ".npz")):
            trained = interop.load(path)
            codes, y = dense(trained.encode(x_BD), F), trained.reconstruct(x_BD)
            np.savez(root / f"{path.name}.here.npz", codes=codes, y=y)
            try:
                interop.save(trained, root / "ours" / path.name, format)
            except ValueError as error:
                print(f"{format}, {path.name}: not written back: {error}")
        there("back")
        for wanted in sorted(root.glob("*.make.npz")):
            name = wanted.name.removesuffix(".make.npz")
            told = [difference(wanted, root / f"{name}.{step}.npz") for step in ("here", "back")]
            print(f"| {format} | {name} | {' | '.join(told)} |")


def difference(wanted: Path, found: Path) -> str:
    if not found.exists():
        return "-"
    with np.load(wanted) as a, np.load(found) as b:
        return f"{max(abs(a[key] - b[key]).max() / abs(a[key]).max() for key in a.files):.1e}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    scripts = {
        "saelens": SAELENS,
        "sparsify": SPARSIFY,
        "dictionary_learning": DICTIONARY_LEARNING,
        "openai": OPENAI,
        "circuit_tracer": CIRCUIT_TRACER,
        "circuit_tracer_clt": CIRCUIT_TRACER_CLT,
        "llamascopium": LLAMASCOPIUM,
        "llamascopium_clt": LLAMASCOPIUM_CLT,
        "overcomplete": OVERCOMPLETE,
    }
    for format in scripts:
        parser.add_argument(f"--{format}", metavar="PYTHON")
    given = vars(parser.parse_args())
    print("| format | dictionary | read here | written here, read there |\n|---|---|---|---|")
    for format, script in scripts.items():
        if given[format]:
            compare(format, given[format], script)


if __name__ == "__main__":
    main()
