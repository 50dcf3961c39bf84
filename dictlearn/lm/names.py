"""Names and layouts of parameters in Hugging Face's files."""

from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from dictlearn.lm.spec import Shaped, shape_of

FREQUENCIES = "rotary_emb.inv_freq"


class Source(NamedTuple):
    """Where the values of a leaf are in a file.

    Args:
        name: the name of the tensor, with "{}" for the layer. Its shape is the shape of the leaf except for
            `n_last`.
        n_last: the size of the last axis of the tensor, where the leaf is a part of it.
        pick: the positions of the leaf on that axis.
        first_of: the leaf is the first row of a tensor with this number of rows.
        flip: whether the tensor is stored `[out, in]`.
        plus: a constant added to the values.
    """

    name: str
    flip: bool = False
    n_last: int | None = None
    pick: Callable[[np.ndarray], np.ndarray] | None = None
    plus: float = 0.0
    first_of: int | None = None


class Names(NamedTuple):
    """The names of a family's tensors.

    Args:
        prefixes: prefixes of all names except `heads`; a file uses one of them.
        outer, block: the name of each leaf outside and inside the blocks.
        unembed: the names of the unembedding; a file uses one of them.
        fused: queries, keys and values are one tensor, concatenated as wholes ("parts") or for each head
            ("heads").
        conv: whether matrices are stored `[in, out]`.
        norm_plus: a constant added to the gains of norms.
        first_of: leaves that are the first row of a tensor, with its number of rows.
        unused: suffixes of the names of tensors without learned values.
        heads: prefixes of the names of task heads, which are left out.
    """

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
    """`n_last` and `pick` of a query, key or value leaf inside a fused tensor.

    Args:
        spec: the hyperparameters.
        leaf: the name of the leaf.
        layout: "parts" or "heads", see `Names`.

    Returns:
        The two fields of `Source`.
    """
    part, width = "qkv".index(leaf[2]), spec.sizes()["W"]
    n_last = shape_of(spec, leaf)[-1]
    picks = {
        "parts": lambda at: part * n_last + at,
        "heads": lambda at: at // width * 3 * width + part * width + at % width,
    }
    return {"n_last": 3 * n_last, "pick": picks[layout]}


def sources(names: Names, spec: Shaped, present: Collection[str]) -> Callable[[str], Source]:
    """Where each leaf is in a file.

    Args:
        names: the names of the family.
        spec: the hyperparameters.
        present: the names of the tensors of the file.

    Returns:
        A function from the name of a leaf to its Source.

    Raises:
        ValueError: if no known name of the embedding or the unembedding is present.
    """

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


def untied_heads(names: Names, spec: Shaped, present: Collection[str]) -> list[str]:
    """The unembeddings in a file whose config ties them to the embedding.

    Args:
        names: the names of the family.
        spec: the hyperparameters.
        present: the names of the tensors of the file.

    Returns:
        Their names.
    """
    tied = "unembed_DV" not in spec.outer_names()
    return [name for name in names.unembed if tied and name in present]


def unused(names: Names, spec: Shaped, name: str) -> bool:
    """Whether a file of the family may have a tensor that the forward pass does not use.

    Args:
        names: the names of the family.
        spec: the hyperparameters.
        name: the name of the tensor.

    Returns:
        True for such a tensor.
    """
    heads = tuple(prefix + head for prefix in names.prefixes for head in names.heads)
    tied = "unembed_DV" not in spec.outer_names()
    return name.startswith(heads) or name.endswith(names.unused) or (tied and name in names.unembed)
