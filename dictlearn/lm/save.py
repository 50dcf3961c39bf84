"""Writes a language model as a Hugging Face folder with the names and the config of a Llama, for `load`."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dictlearn import files
from dictlearn.lm import families, names
from dictlearn.lm.model import LM
from dictlearn.lm.spec import Spec

_FAMILY = "llama"
_CONFIG, _TOKENIZER, _WEIGHTS = "config.json", "tokenizer.json", "model.safetensors"
_PRESENT = ("model.embed_tokens.weight", "lm_head.weight")


def save(lm: LM, folder: str | Path) -> None:
    """Writes config.json, tokenizer.json and model.safetensors; `load(name, folder)` loads the same model.

    Args:
        lm: a Llama; its parameters keep their dtype.
        folder: the folder, which is created, or replaced as a whole.

    Raises:
        ValueError: for a decoder that is not a Llama; the message names the fields that differ. For a
            folder that holds other files.

    Example:
        >>> import tempfile
        >>> from dictlearn.lm import decoder, load
        >>> from dictlearn.lm.spec import random_params
        >>> from dictlearn.lm.tokenizer import trained
        >>> spec = Spec(n_layers=1, d_model=4, n_heads=1, n_kv_heads=1, head_dim=4, d_mlp=8, vocab=300)
        >>> params = random_params(spec, jax.random.key(0))
        >>> lm = LM("mine", spec, params, trained(["a b"], 300), 0, {}, decoder.forward)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(lm, folder)
        ...     load("mine", folder).spec == spec
        True
    """
    folder, config = Path(folder), _config(lm.spec, lm.separator)
    told = vars(families.spec_from_config(config))
    if lost := {key: value for key, value in vars(lm.spec).items() if told[key] != value}:
        raise ValueError(f"{lm.name} is not a Llama, and cannot be written as one: {lost}.")
    source = names.sources(families.tensor_names(_FAMILY), lm.spec, _PRESENT)
    tensors = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(lm.params):
        where, layer = source(path[-1].key), path[0].key.rpartition("_")[2]
        value = np.asarray(leaf).T if where.flip else np.asarray(leaf)
        tensors[where.name.format(layer)] = np.ascontiguousarray(value)
    _refuse_others(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with files.whole(folder) as half:
        half.mkdir()
        (half / _CONFIG).write_text(json.dumps(config, indent=1))
        (half / _TOKENIZER).write_text(lm.tokenizer.to_str(pretty=True), "utf-8")
        files.save_tensors(tensors, half / _WEIGHTS)


def _refuse_others(folder: Path) -> None:
    """Raises ValueError for a folder with other files: it is replaced as a whole."""
    there = {one.name for one in folder.iterdir()} if folder.is_dir() else set()
    if others := sorted(there - {_CONFIG, _TOKENIZER, _WEIGHTS}):
        raise ValueError(
            f"{folder} holds {', '.join(others)}, no files of a model; give another folder."
        )


def _config(spec: Spec, separator: int) -> dict[str, Any]:
    return {
        **{"model_type": _FAMILY, "hidden_size": spec.d_model, "vocab_size": spec.vocab},
        **{"num_hidden_layers": spec.n_layers, "num_attention_heads": spec.n_heads},
        **{"num_key_value_heads": spec.n_kv_heads, "head_dim": spec.head_dim},
        **{"intermediate_size": spec.d_mlp, "rms_norm_eps": spec.norm_eps},
        **{"rope_theta": spec.rope_base, "tie_word_embeddings": spec.tied},
        **{"attention_bias": spec.bias_qkv, "mlp_bias": spec.bias_mlp},
        **{"hidden_act": spec.activation, "eos_token_id": separator},
    }
