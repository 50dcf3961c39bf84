"""A random llama of a few thousand parameters, and the GGUF file that it would be stored in."""

import dataclasses
import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers

from dictlearn.lm import LM, decoder, tokenizer
from dictlearn.lm.spec import Spec, random_params

from . import gguf_files

SPEC = Spec(n_layers=3, d_model=12, n_heads=4, n_kv_heads=2, head_dim=6, d_mlp=20, vocab=259)


@functools.cache
def toy(seed: int = 0, spec: Spec = SPEC) -> tuple[Spec, dict[str, Any]]:
    """A spec and its random parameters, made once: not to be written to."""
    return spec, random_params(spec, jax.random.key(seed))


def toy_lm(seed: int = 0, spec: Spec = SPEC) -> LM:
    """The same as a model that was loaded, with a tokenizer of no words."""
    spec, params = toy(seed, spec)
    forward = functools.partial(decoder.forward, spec)
    return LM("toy", spec, params, Tokenizer(models.BPE()), 0, {}, forward)


def spoken_lm() -> LM:
    """The same with a tokenizer of bytes."""
    return dataclasses.replace(toy_lm(), tokenizer=tokenizer.trained(["the cat sat"], SPEC.vocab))


def tokenizer_metadata() -> dict[str, Any]:
    """A byte-level vocabulary of 256 bytes, one merge ("th") and two control tokens."""
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "th", "<|endoftext|>", "<|im_end|>"]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.merges": ["t h"],
        "tokenizer.ggml.token_type": np.array([1] * 257 + [3] * 2, np.int32),
    }


def metadata(spec: Spec) -> dict[str, Any]:
    """What a GGUF file says of a llama."""
    sizes = {
        "block_count": spec.n_layers,
        "embedding_length": spec.d_model,
        "feed_forward_length": spec.d_mlp,
        "attention.head_count": spec.n_heads,
        "attention.head_count_kv": spec.n_kv_heads,
        "attention.key_length": spec.head_dim,
    }
    return {
        "general.architecture": "llama",
        **{f"llama.{key}": np.uint32(size) for key, size in sizes.items()},
        "llama.rope.freq_base": np.float32(spec.rope_base),
        "llama.attention.layer_norm_rms_epsilon": np.float32(spec.norm_eps),
        **tokenizer_metadata(),
    }


def interleave(weight: np.ndarray, head_dim: int) -> np.ndarray:
    """Columns [in, heads * head_dim] with rotary pairs (i, i + head_dim/2) put side by side."""
    pairs = weight.reshape(weight.shape[0], -1, 2, head_dim // 2)
    return pairs.swapaxes(2, 3).reshape(weight.shape)


def write_gguf(
    path: Path, spec: Spec, params: dict[str, Any], more: Mapping[str, Any] = {}
) -> Path:
    """The model as llama.cpp's converter would store it, in float32; `more` metadata beside the usual."""
    names = {
        **{"attn_norm_D": "attn_norm", "W_q_DH": "attn_q", "W_k_DG": "attn_k"},
        **{"W_v_DG": "attn_v", "W_o_HD": "attn_output", "mlp_norm_D": "ffn_norm"},
        **{"W_gate_DM": "ffn_gate", "W_up_DM": "ffn_up", "W_down_MD": "ffn_down"},
    }
    arrays = {
        "token_embd": np.asarray(params["embed_VD"]),
        "output_norm": np.asarray(params["norm_D"]),
    }
    if not spec.tied:
        arrays["output"] = np.asarray(params["unembed_DV"]).T
    for layer in range(spec.n_layers):
        for leaf, name in names.items():
            weight = np.asarray(params[f"block_{layer}"][leaf])
            if leaf in ("W_q_DH", "W_k_DG"):
                weight = interleave(weight, spec.head_dim)
            arrays[f"blk.{layer}.{name}"] = weight.T
    tensors = {
        f"{name}.weight": (gguf_files.F32, array.shape, np.ascontiguousarray(array).tobytes())
        for name, array in arrays.items()
    }
    return gguf_files.write(path, metadata(spec) | dict(more), tensors)


def model_and_text(folder: Path) -> Spec:
    """Writes toy.gguf, a model, and text.jsonl, twenty lines that differ in a number."""
    spec, params = toy()
    write_gguf(folder / "toy.gguf", spec, params)
    lines = (json.dumps({"text": f"the cat {n} sat on the mat"}) for n in range(20))
    (folder / "text.jsonl").write_text("\n".join(lines))
    return spec
