"""Decoders out of GGUF files: hyperparameters from the metadata, parameters from the tensors.

GGUF stores matrices as [out, in], and Llama's query and key rows of each head in the order of the
rotary form that pairs dimension 2i with 2i + 1; both are undone here. It stores norms' gains
themselves, Gemma's too, and fused queries, keys and values side by side.

Source: the writers of llama.cpp's convert_hf_to_gguf.py, inverted; for what no key says (Gemma's
scales, windows and local rotary base) the readers of its llama-model.cpp.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from dictlearn.lm import gguf
from dictlearn.lm.names import Source, fused_part
from dictlearn.lm.spec import Spec
from dictlearn.lm.weights import runs

_OUTER = {
    **{"embed_VD": "token_embd.weight", "position_TD": "position_embd.weight"},
    **{"norm_D": "output_norm.weight", "norm_bias_D": "output_norm.bias"},
    "unembed_DV": "output.weight",
}
_STEMS = {
    **{"attn_norm": "attn_norm", "q_norm": "attn_q_norm", "k_norm": "attn_k_norm"},
    **{"attn_post_norm": "post_attention_norm", "mlp_norm": "ffn_norm"},
    **{"mlp_post_norm": "post_ffw_norm", "o": "attn_output"},
    **{"gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down"},
}
_LAYER_NORM = {"norm": "layer", "gated": False, "bias_qkv": True, "bias_o": True, "bias_mlp": True}
_GEMMA = {"activation": "gelu_tanh", "post_norms": True}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {"bias_qkv": True},
    "qwen3": {"qk_norm": True},
    "gemma2": _GEMMA,
    "gemma3": _GEMMA | {"qk_norm": True},
    "gpt2": _LAYER_NORM | {"activation": "gelu_tanh"},
    "gptneox": _LAYER_NORM | {"activation": "gelu"},
}
"""`general.architecture` -> the fields of its spec that no key states."""
_FUSED = ("gpt2", "gptneox")


class _Metadata:
    def __init__(self, values: Mapping[str, Any]):
        self.values, self.architecture = values, values.get("general.architecture")
        if self.architecture not in ARCHITECTURES:
            known = ", ".join(map(repr, ARCHITECTURES))
            raise ValueError(f"general.architecture is {self.architecture!r}; known: {known}.")

    def get(self, key: str, default: Any = None) -> Any:
        return self.values.get(f"{self.architecture}.{key}", default)

    def number(self, key: str, kind: type = int, default: float | int | None = None) -> Any:
        value = self.get(key, default)
        if not isinstance(value, int | kind) or not value > 0:
            raise ValueError(
                f"GGUF metadata {self.architecture}.{key} is {value!r}, not a positive"
                f" {kind.__name__}."
            )
        return value


def _rope(meta: _Metadata, tensors: Mapping[str, gguf.Tensor], head_dim: int) -> dict[str, Any]:
    width = meta.number("rope.dimension_count", default=head_dim)
    kind, divisors = meta.get("rope.scaling.type", "none"), ()
    if kind not in ("none", "linear"):
        raise ValueError(f"rope.scaling.type is {kind!r}; known: 'none', 'linear'.")
    if kind == "linear":
        divisors = (float(meta.number("rope.scaling.factor", float)),) * (width // 2)
    if "rope_freqs.weight" in tensors:
        divisors = tuple(gguf.dequantise(tensors["rope_freqs.weight"]).tolist())
    default = 1e4 if meta.architecture in _FUSED else None
    return {
        "rope_base": meta.number("rope.freq_base", float, default),
        "rope_width": None if width == head_dim else width,
        "rope_divisors": divisors,
    }


def _gemma(meta: _Metadata, n_layers: int, d_model: int, n_heads: int) -> dict[str, Any]:
    every, base = {"gemma2": (2, None), "gemma3": (6, 1e4)}[str(meta.architecture)]
    # The two 27B models, known by their depth, scale by d_model / n_heads and not by the head.
    large = n_layers == {"gemma2": 46, "gemma3": 62}[str(meta.architecture)]
    return {
        "window": meta.number("attention.sliding_window"),
        "sliding_layers": tuple(layer for layer in range(n_layers) if (layer + 1) % every),
        "local_rope_base": base and meta.number("rope.freq_base_swa", float, base),
        "embed_scale": float(d_model**0.5),
        "query_scale": (d_model / n_heads) ** -0.5 if large else None,
        "attn_cap": meta.get("attn_logit_softcapping"),
        "logit_cap": meta.get("final_logit_softcapping"),
    }


def spec_from_gguf(metadata: Mapping[str, Any], tensors: Mapping[str, gguf.Tensor]) -> Spec:
    """The hyperparameters that a decoder's GGUF file states.

    Raises ValueError for another architecture, a missing key, experts and other rope scaling."""
    meta = _Metadata(metadata)
    if experts := meta.get("expert_count", 0):
        raise ValueError(f"{meta.architecture}.expert_count is {experts}: experts are not known.")
    if "token_embd.weight" not in tensors:
        raise ValueError("GGUF tensors lack 'token_embd.weight'.")
    n_layers, d_model = meta.number("block_count"), meta.number("embedding_length")
    n_heads = meta.number("attention.head_count")
    head_dim = meta.number("attention.key_length", default=d_model // n_heads)
    fields = dict(ARCHITECTURES[str(meta.architecture)])
    if str(meta.architecture).startswith("gemma"):
        fields |= _gemma(meta, n_layers, d_model, n_heads)
    if meta.architecture == "gpt2":
        fields["positions"] = meta.number("context_length")
    else:
        fields |= _rope(meta, tensors, head_dim)
    if meta.architecture == "gptneox":
        fields["parallel"] = bool(meta.get("use_parallel_residual", True))
    if meta.architecture == "llama":
        for field, tensor in (("qkv", "attn_q"), ("o", "attn_output"), ("mlp", "ffn_up")):
            fields[f"bias_{field}"] = f"blk.0.{tensor}.bias" in tensors
    layered = fields.get("norm") == "layer"
    eps = "attention.layer_norm_epsilon" if layered else "attention.layer_norm_rms_epsilon"
    return Spec(
        n_layers=n_layers,
        d_model=d_model,
        n_heads=n_heads,
        n_kv_heads=meta.number("attention.head_count_kv", default=n_heads if layered else None),
        head_dim=head_dim,
        d_mlp=meta.number("feed_forward_length"),
        vocab=tensors["token_embd.weight"].shape[0],
        norm_eps=meta.number(eps, float),
        tied="output.weight" not in tensors,
        **fields,
    )


def _interleaved(at: np.ndarray, head_dim: int) -> np.ndarray:
    """Where rotary pairs (i, i + head_dim/2) lie in an order of pairs (2i, 2i + 1)."""
    head, within = at // head_dim * head_dim, at % head_dim
    half = head_dim // 2
    return head + 2 * (within % half) + within // half


def sources(architecture: str, spec: Spec) -> Callable[[str], Source]:
    """Leaf -> where it lies in a GGUF file ("{}" is the layer)."""

    def source(leaf: str) -> Source:
        flip = leaf.startswith("W_") or leaf == "unembed_DV"
        if leaf in _OUTER:
            return Source(_OUTER[leaf], flip)
        matrix = leaf.startswith(("W_", "b_"))
        kind = "bias" if leaf.startswith("b_") or "_bias_" in leaf else "weight"
        stem = leaf[2:].rsplit("_", 1)[0] if matrix else leaf.rsplit("_", 1)[0]
        stem = stem.removesuffix("_bias")
        fused: dict[str, Any] = {}
        if matrix and stem in ("q", "k", "v"):
            if architecture in _FUSED:
                fused, stem = fused_part(spec, leaf, "parts"), "qkv"
            elif architecture == "llama" and stem != "v":
                fused = {"pick": lambda at: _interleaved(at, spec.head_dim)}
            stem = f"attn_{stem}"
        return Source(f"blk.{{}}.{_STEMS.get(stem, stem)}.{kind}", flip, **fused)

    return source


class GGUFTensors:
    """The tensors of a GGUF file, as `weights.Tensors`: whole rows are read, then dequantised."""

    def __init__(self, tensors: Mapping[str, gguf.Tensor]):
        self.tensors = tensors

    def names(self) -> Collection[str]:
        return self.tensors.keys()

    def shape(self, name: str) -> tuple[int, ...]:
        return self.tensors[name].shape

    def read(self, name: str, where: Sequence[np.ndarray]) -> np.ndarray:
        rows, *columns = [run[0] if len(run := runs(at)) == 1 else at for at in where]
        values = gguf.dequantise(self.tensors[name], rows)
        return values[:, columns[0]] if columns else values
