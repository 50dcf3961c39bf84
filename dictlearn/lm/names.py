"""Names and layouts of parameters in Hugging Face's files."""

from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from dictlearn.lm.spec import Shaped, shape_of

FREQUENCIES = "rotary_emb.inv_freq"


class Source(NamedTuple):
    """Where a leaf's values lie: tensor `name` ("{}" is the layer), whose shape is the leaf's, but
    for `n_last`, the size of what the leaf's last axis is a part of. `pick` maps positions on the
    last axis to positions in the file. `first_of`: the leaf is the first of so many rows, of one tensor.
    `flip`: stored [out, in]. `plus` is added to the values."""

    name: str
    flip: bool = False
    n_last: int | None = None
    pick: Callable[[np.ndarray], np.ndarray] | None = None
    plus: float = 0.0
    first_of: int | None = None


class Names(NamedTuple):
    """A family's tensors. `prefixes`: what all names but `heads` begin with, one of them. `unembed`:
    names of the unembedding, one of them. `fused`: queries, keys and values are one tensor, side by
    side ("parts") or head by head ("heads"). `conv`: matrices are stored [in, out]. `norm_plus`: what is
    added to the gains of norms. `first_of`: leaves that are the first row of a tensor of so many. `unused`:
    ends of names of tensors that hold nothing learned. `heads`: what names of heads for tasks begin with,
    which may lie beside the model and are left aside."""

    prefixes: tuple[str, ...]
    outer: Mapping[str, str]
    block: Mapping[str, str]
    unembed: tuple[str, ...] = ("lm_head.weight",)
    fused: str | None = None
    conv: bool = False
    norm_plus: float = 0.0
    first_of: Mapping[str, int] = MappingProxyType({})
    unused: tuple[str, ...] = (FREQUENCIES,)
    heads: tuple[str, ...] = ()


def fused_part(spec: Shaped, leaf: str, layout: str) -> dict[str, Any]:
    """`n_last` and `pick` of a query, key or value leaf inside one tensor of all three."""
    part, width = "qkv".index(leaf[2]), spec.sizes()["W"]
    n_last = shape_of(spec, leaf)[-1]
    picks = {
        "parts": lambda at: part * n_last + at,
        "heads": lambda at: at // width * 3 * width + part * width + at % width,
    }
    return {"n_last": 3 * n_last, "pick": picks[layout]}


def sources(names: Names, spec: Shaped, present: Collection[str]) -> Callable[[str], Source]:
    """Leaf -> where it lies in a file that has the tensors `present`.

    Raises ValueError where no known name of the embedding or the unembedding is among them."""

    def first(leaf: str, candidates: list[str]) -> str:
        for name in candidates:
            if name in present:
                return name
        raise ValueError(f"The tensors lack {leaf}: none of {', '.join(candidates)}.")

    embed = names.outer["embed_VD"]
    prefix = first("embed_VD", [p + embed for p in names.prefixes]).removesuffix(embed)
    has_own = "unembed_DV" in spec.outer_names()
    unembed = first("unembed_DV", list(names.unembed)) if has_own else ""

    def source(leaf: str) -> Source:
        if leaf == "unembed_DV":
            return Source(unembed, flip=True)
        name = prefix + {**names.block, **names.outer}[leaf]
        fused = names.fused and leaf[:4] in ("W_q_", "W_k_", "W_v_", "b_q_", "b_k_", "b_v_")
        return Source(
            name,
            flip=leaf.startswith("W_") and not names.conv,
            plus=names.norm_plus if "norm" in leaf else 0.0,
            first_of=names.first_of.get(leaf),
            **(fused_part(spec, leaf, names.fused) if fused and names.fused else {}),
        )

    return source


def heads_beside(names: Names, spec: Shaped, present: Collection[str]) -> list[str]:
    """The unembeddings in a file whose config puts the embedding in their place."""
    tied = "unembed_DV" not in spec.outer_names()
    return [name for name in names.unembed if tied and name in present]


def unused(names: Names, spec: Shaped, name: str) -> bool:
    """True of a tensor that a file of the family may hold and the forward pass has no use for."""
    heads = tuple(prefix + head for prefix in names.prefixes for head in names.heads)
    tied = "unembed_DV" not in spec.outer_names()
    return name.startswith(heads) or name.endswith(names.unused) or (tied and name in names.unembed)
