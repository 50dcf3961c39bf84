"""What Hugging Face's files call each parameter, family by family, and how it is laid out there."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import numpy as np

from dictlearn.lm.spec import Spec, shape_of


class Source(NamedTuple):
    """Where a leaf's values lie: tensor `name` ("{}" is the layer), whose shape is the leaf's, but
    for `n_last`, the size of what the leaf's last axis is a part of. `pick` maps positions on the
    last axis to positions in the file. `flip`: stored [out, in]. `plus` is added to the values."""

    name: str
    flip: bool = False
    n_last: int | None = None
    pick: Callable[[np.ndarray], np.ndarray] | None = None
    plus: float = 0.0


class Names(NamedTuple):
    """A family's tensors. `prefixes`: what all names but `heads` begin with, one of them. `unembed`:
    names of the unembedding, one of them. `fused`: queries, keys and values are one tensor, side by
    side ("parts") or head by head ("heads"). `conv`: matrices are stored [in, out]. `unused`: ends of
    names of tensors that hold nothing learned."""

    prefixes: tuple[str, ...]
    outer: Mapping[str, str]
    block: Mapping[str, str]
    unembed: tuple[str, ...] = ("lm_head.weight",)
    fused: str | None = None
    conv: bool = False
    norm_plus: float = 0.0
    unused: tuple[str, ...] = ("rotary_emb.inv_freq",)


def _pair(leaf: str, letters: str, name: str) -> dict[str, str]:
    """A matrix and its bias."""
    return {f"W_{leaf}_{letters}": f"{name}.weight", f"b_{leaf}_{letters[1]}": f"{name}.bias"}


def _norm(leaf: str, name: str) -> dict[str, str]:
    return {f"{leaf}_D": f"{name}.weight", f"{leaf}_bias_D": f"{name}.bias"}


def _qkv(*names: str) -> dict[str, str]:
    q, k, v = names
    return _pair("q", "DH", q) | _pair("k", "DG", k) | _pair("v", "DG", v)


_LLAMA = {
    **_norm("attn_norm", "input_layernorm"),
    **_qkv(*(f"self_attn.{one}_proj" for one in "qkv")),
    **_pair("o", "HD", "self_attn.o_proj"),
    **{"q_norm_W": "self_attn.q_norm.weight", "k_norm_W": "self_attn.k_norm.weight"},
    **_norm("mlp_norm", "post_attention_layernorm"),
    **_pair("gate", "DM", "mlp.gate_proj"),
    **_pair("up", "DM", "mlp.up_proj"),
    **_pair("down", "MD", "mlp.down_proj"),
}
_GEMMA = _LLAMA | {
    "attn_post_norm_D": "post_attention_layernorm.weight",
    "mlp_norm_D": "pre_feedforward_layernorm.weight",
    "mlp_post_norm_D": "post_feedforward_layernorm.weight",
}
_GPT2 = {
    **_norm("attn_norm", "ln_1"),
    **_qkv(*["attn.c_attn"] * 3),
    **_pair("o", "HD", "attn.c_proj"),
    **_norm("mlp_norm", "ln_2"),
    **_pair("up", "DM", "mlp.c_fc"),
    **_pair("down", "MD", "mlp.c_proj"),
}
_NEOX = {
    **_norm("attn_norm", "input_layernorm"),
    **_qkv(*["attention.query_key_value"] * 3),
    **_pair("o", "HD", "attention.dense"),
    **_norm("mlp_norm", "post_attention_layernorm"),
    **_pair("up", "DM", "mlp.dense_h_to_4h"),
    **_pair("down", "MD", "mlp.dense_4h_to_h"),
}


def _layered(block: Mapping[str, str], layer: str) -> dict[str, str]:
    return {leaf: f"{layer}.{{}}.{name}" for leaf, name in block.items()}


_llama = Names(
    prefixes=("model.", ""),
    outer={"embed_VD": "embed_tokens.weight", "norm_D": "norm.weight"},
    block=_layered(_LLAMA, "layers"),
)
_gemma = _llama._replace(block=_layered(_GEMMA, "layers"), norm_plus=1.0)
NAMES = {
    "gpt2": Names(
        prefixes=("transformer.", ""),
        outer={"embed_VD": "wte.weight", "position_TD": "wpe.weight", **_norm("norm", "ln_f")},
        block=_layered(_GPT2, "h"),
        fused="parts",
        conv=True,
        unused=("attn.bias", "attn.masked_bias"),
    ),
    "gpt_neox": Names(
        prefixes=("gpt_neox.", ""),
        outer={"embed_VD": "embed_in.weight", **_norm("norm", "final_layer_norm")},
        block=_layered(_NEOX, "layers"),
        unembed=("embed_out.weight", "lm_head.weight"),
        fused="heads",
        unused=("rotary_emb.inv_freq", "attention.bias", "attention.masked_bias"),
    ),
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3"), _llama),
    **dict.fromkeys(("gemma2", "gemma3_text"), _gemma),
}
"""`model_type` -> its names."""


def fused_part(spec: Spec, leaf: str, layout: str) -> dict[str, Any]:
    """`n_last` and `pick` of a query, key or value leaf inside one tensor of all three."""
    part, width = "qkv".index(leaf[2]), spec.head_dim
    n_last = shape_of(spec, leaf)[-1]
    picks = {
        "parts": lambda at: part * n_last + at,
        "heads": lambda at: at // width * 3 * width + part * width + at % width,
    }
    return {"n_last": 3 * n_last, "pick": picks[layout]}


def sources(family: str, spec: Spec, present: Collection[str]) -> Callable[[str], Source]:
    """Leaf -> where it lies in a file that has the tensors `present`.

    Raises ValueError where no known name of the embedding or the unembedding is among them."""
    names = NAMES[family]

    def first(leaf: str, candidates: list[str]) -> str:
        for name in candidates:
            if name in present:
                return name
        raise ValueError(f"The tensors lack {leaf}: none of {', '.join(candidates)}.")

    embed = names.outer["embed_VD"]
    prefix = first("embed_VD", [p + embed for p in names.prefixes]).removesuffix(embed)
    unembed = "" if spec.tied else first("unembed_DV", list(names.unembed))

    def source(leaf: str) -> Source:
        if leaf == "unembed_DV":
            return Source(unembed, flip=True)
        name = prefix + {**names.block, **names.outer}[leaf]
        fused = names.fused and leaf[:4] in ("W_q_", "W_k_", "W_v_", "b_q_", "b_k_", "b_v_")
        return Source(
            name,
            flip=leaf.startswith("W_") and not names.conv,
            plus=names.norm_plus if "norm" in leaf else 0.0,
            **(fused_part(spec, leaf, names.fused) if fused and names.fused else {}),
        )

    return source


def unused(family: str, spec: Spec, name: str) -> bool:
    """True of a tensor that a file of the family may hold and the forward pass has no use for."""
    names = NAMES[family]
    return name.endswith(names.unused) or (spec.tied and name in names.unembed)
