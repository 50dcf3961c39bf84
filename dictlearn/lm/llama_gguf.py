"""Llamas out of GGUF files: hyperparameters from the metadata, parameters from the tensors.

GGUF stores matrices as [out, in], and the query and key rows of each head in the order of the
rotary form that pairs dimension 2i with 2i + 1. Both are undone here.

Source: `permute` of LlamaModel in llama.cpp's convert_hf_to_gguf.py, inverted.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from dictlearn.lm import gguf, llama

_OUTER = {"embed_VD": "token_embd", "norm_D": "output_norm", "unembed_DV": "output"}
_BLOCK = {
    "attn_norm_D": "attn_norm",
    "W_q_DH": "attn_q",
    "W_k_DG": "attn_k",
    "W_v_DG": "attn_v",
    "W_o_HD": "attn_output",
    "mlp_norm_D": "ffn_norm",
    "W_gate_DM": "ffn_gate",
    "W_up_DM": "ffn_up",
    "W_down_MD": "ffn_down",
}


def spec_from_gguf(metadata: Mapping[str, Any], tensors: Mapping[str, gguf.Tensor]) -> llama.Spec:
    """The hyperparameters that a llama's GGUF file states.

    Raises ValueError for another architecture, a missing key, partial rotary dimensions and rope
    scaling."""
    if (architecture := metadata.get("general.architecture")) != "llama":
        raise ValueError(f"general.architecture is {architecture!r}; known: 'llama'.")

    def field(key: str, kind: type = int) -> Any:
        value: Any = metadata.get(f"llama.{key}")
        if not isinstance(value, int | kind) or not value > 0:
            raise ValueError(
                f"GGUF metadata llama.{key} is {value!r}, not a positive {kind.__name__}."
            )
        return value

    n_heads, d_model = field("attention.head_count"), field("embedding_length")
    stated = "llama.attention.key_length" in metadata
    head_dim = field("attention.key_length") if stated else d_model // n_heads
    rope_dim = metadata.get("llama.rope.dimension_count", head_dim)
    scaling = metadata.get("llama.rope.scaling.type", "none")
    if rope_dim != head_dim or scaling != "none":
        raise ValueError(f"{rope_dim=}, {scaling=}; only {head_dim=} and scaling 'none' are known.")
    if "token_embd.weight" not in tensors:
        raise ValueError("GGUF tensors lack 'token_embd.weight'.")
    return llama.Spec(
        n_layers=field("block_count"),
        d_model=d_model,
        n_heads=n_heads,
        n_kv_heads=field("attention.head_count_kv"),
        head_dim=head_dim,
        d_mlp=field("feed_forward_length"),
        vocab=tensors["token_embd.weight"].shape[0],
        rope_base=field("rope.freq_base", float),
        norm_eps=field("attention.layer_norm_rms_epsilon", float),
        tied="output.weight" not in tensors,
    )


def _half_split(rows: np.ndarray, head_dim: int) -> np.ndarray:
    """Rows [heads * head_dim, in], from rotary pairs (2i, 2i + 1) to pairs (i, i + head_dim/2)."""
    heads = rows.reshape(-1, head_dim // 2, 2, rows.shape[1])
    return heads.swapaxes(1, 2).reshape(rows.shape)


def params_from_gguf(spec: llama.Spec, tensors: Mapping[str, gguf.Tensor]) -> dict[str, Any]:
    """The parameters of a llama, float32 numpy arrays, in the tree of `llama.random_params`.

    Raises ValueError for a missing tensor, for one of another shape than the spec gives it, and for
    any that the forward pass would not use: a bias or a rope table left out gives wrong logits."""
    used = set()

    def leaf(name: str, layer: int | None) -> np.ndarray:
        source = _OUTER[name] if layer is None else f"blk.{layer}.{_BLOCK[name]}"
        source = f"{source}.weight"
        if source not in tensors:
            raise ValueError(f"GGUF tensors lack {source!r}.")
        used.add(source)
        tensor, shape = tensors[source], llama.shape_of(spec, name)
        by_token = name == "embed_VD"
        stored = shape if by_token else shape[::-1]
        if tensor.shape != stored:
            raise ValueError(f"GGUF tensor {source!r} is {tensor.shape}; the spec says {stored}.")
        values = gguf.dequantise(tensor)
        if name in ("W_q_DH", "W_k_DG"):
            values = _half_split(values, spec.head_dim)
        return values if by_token else np.ascontiguousarray(values.T)

    params = llama.build(spec, leaf)
    if unused := sorted(set(tensors) - used):
        raise ValueError(f"GGUF tensors that a llama has no use for: {', '.join(unused[:5])}.")
    return params
