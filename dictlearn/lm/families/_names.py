"""Parts of the tables `NAMES`: the name of each leaf in Hugging Face's files."""

from collections.abc import Mapping


def pair(leaf: str, letters: str, name: str) -> dict[str, str]:
    """The names of a matrix and its bias."""
    return {f"W_{leaf}_{letters}": f"{name}.weight", f"b_{leaf}_{letters[1]}": f"{name}.bias"}


def norm(leaf: str, name: str) -> dict[str, str]:
    """The names of the gain and the bias of a norm."""
    return {f"{leaf}_D": f"{name}.weight", f"{leaf}_bias_D": f"{name}.bias"}


def qkv(*names: str) -> dict[str, str]:
    """The names of queries, keys and values."""
    q, k, v = names
    return pair("q", "DH", q) | pair("k", "DG", k) | pair("v", "DG", v)


def layered(block: Mapping[str, str], layers: str = "layers") -> dict[str, str]:
    """The names in a block with their prefix, where "{}" is the layer."""
    return {leaf: f"{layers}.{{}}.{name}" for leaf, name in block.items()}
