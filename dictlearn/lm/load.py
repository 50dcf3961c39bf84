"""Language models ready to run: weights on the device, a tokenizer, and the source of both."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from dictlearn.lm import decoder, families, gguf, gguf_models, hub, names, packages, source, weights
from dictlearn.lm import tokenizer as tokenizers
from dictlearn.lm.attention import frequencies
from dictlearn.lm.leftover import tell
from dictlearn.lm.model import LM
from dictlearn.lm.rounding import rounded, said
from dictlearn.lm.spec import Spec

_DTYPES = ("float32", "bfloat16", "float16")


@functools.cache
def _bound(forward: Callable, spec: Any) -> Callable:
    """`forward` with the spec filled in: one object for each architecture, so that a model that is loaded again
    uses the programs that were compiled for it."""
    return functools.partial(forward, spec)


def _from_gguf(name: str, path: Path, dtype: Any, mesh: Mesh | None) -> LM:
    metadata, tensors = gguf.read(path)
    spec = gguf_models.spec_from_gguf(metadata, tensors)
    file = path.parent / "tokenizer.json"
    known = file.is_file()
    tokenizer = tokenizers.from_file(file) if known else tokenizers.from_gguf(metadata)
    separator = tokenizers.separator_of_gguf(tokenizer, metadata, spec.vocab)
    params = weights.load_params(
        spec,
        gguf_models.sources(gguf_models.architecture_of(metadata), spec),
        gguf_models.GGUFTensors(tensors),
        dtype,
        mesh,
        unused=lambda name: name == gguf_models.ROPE_TABLE and not spec.positions,
    )
    return LM(
        name=name,
        spec=spec,
        params=params,
        tokenizer=tokenizer,
        separator=separator,
        source=source.of_gguf(path, tensors),
        forward=_bound(decoder.forward, spec),
    )


def _from_folder(name: str, folder: Path, dtype: Any, mesh: Mesh | None) -> LM:
    config = weights.read_json(folder / "config.json")
    spec = families.spec_from_config(config)
    tensors = weights.Safetensors(folder)
    tokenizer = tokenizers.from_file(folder / "tokenizer.json")
    separator = tokenizers.separator_of_folder(tokenizer, folder, config)
    family = config["model_type"]
    called = families.tensor_names(family)
    where = names.sources(called, spec, tensors.names())
    heads = names.untied_heads(called, spec, tensors.names())
    weights.check_tied(tensors, where("embed_VD").name, heads)
    _tell_frequencies(spec, tensors)
    params = weights.load_params(
        spec,
        where,
        tensors,
        dtype,
        mesh,
        unused=functools.partial(names.unused, called, spec),
    )
    return LM(
        name=name,
        spec=spec,
        params=params,
        tokenizer=tokenizer,
        separator=separator,
        source=source.of_folder(folder, tensors),
        forward=_bound(families.forward(family), spec),
    )


def _tell_frequencies(spec: Any, tensors: weights.Safetensors) -> None:
    """Warns of the rotary frequencies of an old file that differ from those that its config defines."""

    def same(name: str) -> bool:
        layer = next((int(part) for part in name.split(".") if part.isdecimal()), 0)
        wanted_w = frequencies(spec, layer)
        (size,) = tensors.shape(name)
        held_w = tensors.read(name, [np.arange(size)]).astype(np.float64)
        return size == len(wanted_w) and np.allclose(held_w, wanted_w, rtol=0.02, atol=1e-6)

    held = sorted(name for name in tensors.names() if name.endswith(names.FREQUENCIES))
    tell(str(tensors.folder), [name for name in held if not same(name)], "tensors")


def identity(
    name: str = "smollm2", path: str | Path | None = None, levels: int | None = None
) -> dict[str, str]:
    """The `source` of the model that `load` would load, without loading its weights.

    Args:
        name: as in `load`.
        path: as in `load`.
        levels: as in `load`.

    Returns:
        The names of the files and their sha256, as in `LM.source`.

    Raises:
        FileNotFoundError: for files or packages that do not exist, as in `load`.
        ValueError: for an unknown name.

    Example:
        >>> identity(path="/no/such/model")
        Traceback (most recent call last):
        FileNotFoundError: /no/such/model is neither a file nor a folder, nor a name on the hub.
    """
    return {**_source(name, path), **(said(levels) if levels else {})}


def _source(name: str, path: str | Path | None) -> dict[str, str]:
    found = _find(name, path)
    if found.is_dir():
        return source.of_folder(found, weights.Safetensors(found))
    return source.of_gguf(found, gguf.read(found)[1])


def read_spec(name: str = "smollm2", path: str | Path | None = None) -> Spec:
    """The hyperparameters of the model that `load` would load, without loading its weights.

    Args:
        name: as in `load`. Of a model on the hub, only `config.json` is downloaded.
        path: as in `load`, or a `config.json` alone.

    Returns:
        A Spec.

    Raises:
        FileNotFoundError: for files or packages that do not exist, as in `load`.
        ValueError: for an unknown name, and for a model that is not a decoder, such as "minilm".

    Example:
        >>> read_spec(path="/no/such/model")
        Traceback (most recent call last):
        FileNotFoundError: /no/such/model is neither a file nor a folder, nor a name on the hub.
    """
    found = _find(name, path, hub.CONFIG)
    if found.suffix != ".json" and not found.is_dir():
        return gguf_models.spec_from_gguf(*gguf.read(found))
    file = found / "config.json" if found.is_dir() else found
    spec = families.spec_from_config(weights.read_json(file))
    if not isinstance(spec, Spec):
        raise ValueError(f"{name!r} is not a decoder, and has no Spec: {file} is of {spec}.")
    return spec


def _find(name: str, path: str | Path | None, files: Sequence[str] = hub.FILES) -> Path:
    """The GGUF file or the folder of the model; `files` are the patterns to download from the hub."""
    if path is None and name in packages.MODELS:
        return packages.locate(*packages.MODELS[name])
    wanted = name if path is None else str(path)
    if Path(wanted).exists():
        return Path(wanted)
    if hub.is_hub_name(wanted):
        return hub.fetch(wanted, files)
    if path is not None:
        raise FileNotFoundError(f"{path} is neither a file nor a folder, nor a name on the hub.")
    known = ", ".join(map(repr, packages.MODELS))
    raise ValueError(
        f"Unknown model {name!r}; known: {known}, or give the path of a GGUF file or of a Hugging"
        " Face folder, or a hub name 'owner/name'."
    )


def load(
    name: str = "smollm2",
    path: str | Path | None = None,
    dtype: str = "float32",
    mesh: Mesh | None = None,
    levels: int | None = None,
) -> LM:
    """Loads a language model onto the default device, or spread over a mesh.

    The separator of documents is `<|endoftext|>` or the end-of-sequence token of a GGUF file. In a folder it
    is the first of these that exists: `eos_token_id` and `bos_token_id` of config.json, the same two of
    special_tokens_map.json, and its `sep_token`. `LM.source` has the sha256 of the weights (of every shard), of
    config.json and of tokenizer.json. Pickles are never read.

    Args:
        name: a packaged model of `packages.MODELS`, or, where no `path` is given, anything that `path` may
            be. Packaged are "smollm2" (SmolLM2-135M-Instruct, 4-bit, Apache-2.0) and "minilm"
            (all-MiniLM-L6-v2, Apache-2.0), a sentence encoder (see `bert`). With a path, it is only the name
            that records show.
        path: a GGUF file; a Hugging Face folder with config.json, tokenizer.json, and model.safetensors or
            its index and shards; or a name on the hub, "owner/name". What exists on disk comes first.
        dtype: the dtype of the parameters: "float32", "bfloat16" or "float16". Norms stay float32.
        mesh: a mesh with an axis "model". Parameters are placed by the letters of their names
            (`sharding.TABLE`), and each process reads only its own slices of a safetensors file.
        levels: rounds every weight matrix to this number of values per row (`rounding`); None does not round.

    Returns:
        An LM.

    Raises:
        FileNotFoundError: for files that do not exist, and for a missing package, with the pip command.
        ValueError: for an unknown name or dtype, and for a model of no family of `families.names()` or
            `families.architectures()`.
        ImportError: where `huggingface_hub` is needed and not installed.

    Example:
        >>> load("smollm2", dtype="int8")
        Traceback (most recent call last):
        ValueError: dtype='int8'; known: float32, bfloat16, float16.
    """
    if dtype not in _DTYPES:
        raise ValueError(f"{dtype=}; known: {', '.join(_DTYPES)}.")
    found = _find(name, path)
    read = _from_folder if found.is_dir() else _from_gguf
    called = Path(name).name if path is None and Path(name).exists() else name
    lm = read(called, found, jnp.dtype(dtype), mesh)
    return lm if levels is None else rounded(lm, levels)
