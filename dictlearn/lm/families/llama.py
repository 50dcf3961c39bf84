"""Llama: RMS norms, rotary positions, gated SiLU, grouped queries.

Source: Touvron et al. 2023 (arXiv:2302.13971).
"""

from typing import Any

from dictlearn.lm.families._gguf import Architecture, Metadata
from dictlearn.lm.families._llama import NAMES, llama_spec

__all__ = ["GGUF", "NAMES", "spec"]

spec = llama_spec


def _biases(meta: Metadata) -> dict[str, Any]:
    """No key states the biases: the tensors exist or do not."""
    tensors = (("qkv", "attn_q"), ("o", "attn_output"), ("mlp", "ffn_up"))
    return {f"bias_{field}": f"blk.0.{name}.bias" in meta.tensors for field, name in tensors}


GGUF = Architecture("llama", _biases, interleaved=True)
