"""For benchmarks/formats.py: Llamascopium's dictionaries, in scripts for its environment."""

LLAMASCOPIUM = """
import json, os, sys, numpy, torch
from llamascopium.models.crosscoder import Crosscoder, CrosscoderConfig
from llamascopium.models.sae import SAEConfig, SparseAutoEncoder
from llamascopium.models.sparse_dictionary import SparseDictionary
step, root = sys.argv[1:]
H, hook, by = 2, "blocks.1.hook_mlp_out", "sparsity_include_decoder_norm"
hooks, sizes = [f"blocks.{n}.hook_mlp_out" for n in range(H)], dict(top_k=5, dtype=torch.float32)
single = dict(d_model=D, expansion_factor=F / D, hook_point_in=hook, hook_point_out=hook)
several = dict(d_model=D // H, expansion_factor=F * H / D, hook_points=hooks)
CASES = {
    f"{kind}, {norm}{', by decoder norm' * ranks}": (kind, {"norm_activation": norm, by: ranks} | single)
    for kind in ("relu", "jumprelu", "topk") for norm in ("inference", "dataset-wise", "token-wise")
    for ranks in (False, True)
} | {
    f"crosscoder, {kind}, {norm}": (kind, {"norm_activation": norm} | several)
    for kind in ("relu", "jumprelu", "topk") for norm in ("inference", "dataset-wise")
}

def make(kind, fields):
    config = CrosscoderConfig if "hook_points" in fields else SAEConfig
    one = SparseDictionary.from_config(config(act_fn=kind, **sizes, **fields))
    one.set_dataset_average_activation_norm({hook: 3.0 + n for n, hook in enumerate(hooks)})
    return one

def save(one, path):
    os.mkdir(path)
    if one.cfg.sae_type == "crosscoder" and one.cfg.act_fn != "relu":  # one code for all heads
        one.set_decoder_to_fixed_norm(1.5, True)
    one.cfg.save_hyperparameters(path)
    one.save_pretrained(path)

def load(path):
    os.stat(path)
    return SparseDictionary.from_local(path, dtype=torch.float32)

def results(one, x):
    if one.cfg.sae_type == "sae":
        hooks = [one.cfg.hook_point_in]
    else:
        hooks = one.cfg.hook_points
    batch = dict(zip(hooks, x.reshape(len(x), len(hooks), -1).unbind(1)))
    batch, scales = one.normalize_activations(batch, return_scale_factor=True)
    codes = one.encode(one.prepare_input(batch)[0])
    y = one.decode(codes).reshape(len(x), len(hooks), -1)
    y = one.denormalize_activations(dict(zip(hooks, y.unbind(1))), scales)
    if len(hooks) > 1:
        assert torch.allclose(codes, codes[:, :1])
        codes = codes[:, 0]
    return codes, torch.cat([y[hook] for hook in hooks], 1)
"""

LLAMASCOPIUM_CLT = """
import os, sys, numpy, torch
from llamascopium.models.clt import CLTConfig, CrossLayerTranscoder
from llamascopium.models.sparse_dictionary import SparseDictionary
step, root = sys.argv[1:]
L, by = 4, "sparsity_include_decoder_norm"
hooks = [[f"blocks.{n}.hook_{side}" for n in range(L)] for side in ("resid_mid", "mlp_out")]
sizes = dict(d_model=D // L, expansion_factor=F / D, hook_points_in=hooks[0], hook_points_out=hooks[1])
CASES = {
    f"{kind}, {norm}{', by decoder norm' * ranks}": (kind, {"norm_activation": norm, by: ranks})
    for kind in ("relu", "jumprelu", "layertopk") for norm in ("inference", "dataset-wise")
    for ranks in (False, True)
}

def make(kind, fields):
    one = CrossLayerTranscoder(CLTConfig(act_fn=kind, top_k=9, dtype=torch.float32, **sizes, **fields))
    one.set_dataset_average_activation_norm({hook: 3.0 + n for n, hook in enumerate(hooks[0] + hooks[1])})
    return one

def save(one, path):
    os.mkdir(path)
    one.cfg.save_hyperparameters(path)
    one.save_pretrained(path)

def load(path):
    os.stat(path)
    return SparseDictionary.from_local(path, dtype=torch.float32)

def results(one, x):
    read, written = one.cfg.hook_points_in, one.cfg.hook_points_out
    layers = x.reshape(len(x), L, -1).unbind(1)
    batch = {hook: layers[n] for side in (read, written) for n, hook in enumerate(side)}
    batch, scales = one.normalize_activations(batch, return_scale_factor=True)
    codes = one.encode(one.prepare_input(batch)[0])
    y = one.denormalize_activations(dict(zip(written, one.decode(codes))), scales)
    return codes.transpose(1, 2).reshape(len(x), -1), torch.cat([y[hook] for hook in written], 1)
"""
