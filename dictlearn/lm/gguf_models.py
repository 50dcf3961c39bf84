"""Decoders in GGUF files: hyperparameters from the metadata, parameters from the tensors.

GGUF stores matrices as `[out, in]`. In some families it stores the query and key rows of each head in the order
of the rotary form that pairs dimension 2i with 2i + 1. Both are undone here. It stores the gains of norms
themselves, also for Gemma, and fused queries, keys and values concatenated. The differences of a family are in
its file in `families`.

Source: the writers of llama.cpp's convert_hf_to_gguf.py, inverted; where no key states a value, the readers of
its llama-model.cpp.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from dictlearn.lm import families, gguf
from dictlearn.lm.families import Architecture, Metadata
from dictlearn.lm.names import Source, fused_part
from dictlearn.lm.spec import Spec
from dictlearn.lm.weights import runs

ROPE_TABLE = "rope_freqs.weight"
"""The tensor with the divisor of each rotary frequency, if a file has one."""
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


def _rope(meta: Metadata, base: float | None, head_dim: int) -> dict[str, Any]:
    width = meta.number("rope.dimension_count", default=head_dim)
    return {
        "rope_base": meta.number("rope.freq_base", float, base),
        "rope_width": None if width == head_dim else width,
        "rope_divisors": _divisors(meta, width),
    }


def _divisors(meta: Metadata, width: int) -> tuple[float, ...]:
    """A common factor times the factor of each pair, where a file has a table of them."""
    kind = meta.get("rope.scaling.type", "linear")
    if kind not in ("none", "linear"):
        raise ValueError(f"rope.scaling.type is {kind!r}; known: 'none', 'linear'.")
    old, new = meta.maybe("rope.scale_linear"), meta.maybe("rope.scaling.factor")
    factor = 1.0 if kind == "none" else new or old or 1.0
    table = meta.tensors.get(ROPE_TABLE)
    each = np.ones(width // 2) if table is None else gguf.dequantise(table)
    divisors = tuple(float(one) for one in factor * each.reshape(-1))
    return () if table is None and factor == 1 else divisors


def _check_whole(meta: Metadata) -> None:
    """Refuses a part of a model, and an adapter."""
    meta.only("split.count", 1, "join the parts with `llama-gguf-split --merge`.")
    meta.only("general.type", "model", "an adapter is merged into its model before it is written.")
    held, count = len(meta.tensors), meta.values.get("split.tensors.count")
    if count not in (None, held):
        raise ValueError(f"GGUF metadata split.tensors.count is {count}; the file has {held}.")


def architecture_of(metadata: Mapping[str, Any]) -> Architecture:
    """The architecture of a GGUF file.

    Args:
        metadata: its metadata.

    Returns:
        The architecture.

    Raises:
        ValueError: for an architecture that no family here has.
    """
    found, known = metadata.get("general.architecture"), families.architectures()
    if found not in known:
        listed = ", ".join(map(repr, known))
        raise ValueError(f"general.architecture is {found!r}; known: {listed}.")
    return known[str(found)]


def spec_from_gguf(metadata: Mapping[str, Any], tensors: Mapping[str, gguf.Tensor]) -> Spec:
    """Reads the hyperparameters of a decoder in a GGUF file.

    A warning names other keys that are not used.

    Args:
        metadata: its metadata.
        tensors: its tensors.

    Returns:
        A Spec.

    Raises:
        ValueError: for an unknown architecture, a missing key, and a key that changes the function of the model
            and that a Spec cannot express (experts, other rope scaling, a part of a split file).
    """
    architecture, meta = architecture_of(metadata), Metadata(metadata, tensors)
    _check_whole(meta)
    if "token_embd.weight" not in tensors:
        raise ValueError("GGUF tensors lack 'token_embd.weight'.")
    d_model, n_heads = meta.number("embedding_length"), meta.number("attention.head_count")
    head_dim = meta.number("attention.key_length", default=d_model // n_heads)
    fields = dict(architecture.fields(meta))
    if "positions" not in fields:
        fields = _rope(meta, architecture.rope_base, head_dim) | fields
    if scale := meta.maybe("attention.scale"):
        fields["query_scale"] = scale
    if (width := meta.number("attention.value_length", default=head_dim)) != head_dim:
        raise ValueError(f"attention.value_length is {width}; the heads' keys have {head_dim}.")
    layered = fields.get("norm") == "layer"
    eps = "attention.layer_norm_epsilon" if layered else "attention.layer_norm_rms_epsilon"
    spec = Spec(
        n_layers=meta.number("block_count"),
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
    meta.refuse_left()
    return spec


def _interleaved(at: np.ndarray, head_dim: int) -> np.ndarray:
    """The positions of the rotary pairs (i, i + head_dim/2) in an order of pairs (2i, 2i + 1)."""
    head, within = at // head_dim * head_dim, at % head_dim
    half = head_dim // 2
    return head + 2 * (within % half) + within // half


def sources(architecture: Architecture, spec: Spec) -> Callable[[str], Source]:
    """Where each leaf is in a GGUF file.

    Args:
        architecture: the architecture of the file.
        spec: the hyperparameters.

    Returns:
        A function from the name of a leaf to its Source, with "{}" for the layer.
    """

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
            if architecture.fused:
                fused, stem = fused_part(spec, leaf, "parts"), "qkv"
            elif architecture.interleaved and stem != "v":
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
