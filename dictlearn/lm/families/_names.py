"""Parts of the tables `NAMES`: leaf -> what Hugging Face's files call it."""

from collections.abc import Mapping


def pair(leaf: str, letters: str, name: str) -> dict[str, str]:
    """A matrix and its bias."""
    return {f"W_{leaf}_{letters}": f"{name}.weight", f"b_{leaf}_{letters[1]}": f"{name}.bias"}


def norm(leaf: str, name: str) -> dict[str, str]:
    """A norm's gain and its bias."""
    return {f"{leaf}_D": f"{name}.weight", f"{leaf}_bias_D": f"{name}.bias"}


def qkv(*names: str) -> dict[str, str]:
    """Queries, keys and values."""
    q, k, v = names
    return pair("q", "DH", q) | pair("k", "DG", k) | pair("v", "DG", v)


def layered(block: Mapping[str, str], layers: str = "layers") -> dict[str, str]:
    """The names within a block, as they are in the file, where "{}" is the layer."""
    return {leaf: f"{layers}.{{}}.{name}" for leaf, name in block.items()}
