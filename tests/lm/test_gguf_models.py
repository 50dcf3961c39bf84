"""A model in a GGUF file, named by the `gguf` package, computes what its Hugging Face folder does."""

import jax
import numpy as np
import pytest

from dictlearn.lm import families, load

from . import gguf_files, hf, toy

pytest.importorskip("torch")
pytest.importorskip("transformers")
gguf = pytest.importorskip("gguf")

GEMMA3 = {"layer_types": None, "rope_parameters": None, "num_hidden_layers": 7}
CASES = {
    "gemma2": ("gemma2", {"query_pre_attn_scalar": 6}),
    "gemma3": ("gemma3", GEMMA3 | {"query_pre_attn_scalar": 6}),
    "llama": ("llama_biased_tied", {}),
    "starcoder2": ("starcoder2", {"sliding_window": None}),
}
"""Architecture -> (case of `hf`, what a GGUF file has no key for and takes as given); of the others, the case
or the small model of the family's name."""
_KEYS = {
    "block_count": ("num_hidden_layers", np.uint32),
    "embedding_length": ("hidden_size", np.uint32),
    "feed_forward_length": ("intermediate_size", np.uint32),
    "context_length": ("max_position_embeddings", np.uint32),
    "attention.head_count": ("num_attention_heads", np.uint32),
    "attention.head_count_kv": ("num_key_value_heads", np.uint32),
    "attention.key_length": ("head_dim", np.uint32),
    "attention.sliding_window": ("sliding_window", np.uint32),
    "attention.layer_norm_rms_epsilon": ("rms_norm_eps", np.float32),
    "attn_logit_softcapping": ("attn_logit_softcapping", np.float32),
    "final_logit_softcapping": ("final_logit_softcapping", np.float32),
}


def metadata(architecture, config):
    values = {
        f"{architecture}.{key}": kind(getattr(config, name))
        for key, (name, kind) in _KEYS.items()
        if getattr(config, name, None) is not None
    }
    if architecture == "gpt2":
        values["gpt2.feed_forward_length"] = np.uint32(4 * config.n_embd)
    if f"{architecture}.attention.layer_norm_rms_epsilon" not in values:
        values[f"{architecture}.attention.layer_norm_epsilon"] = np.float32(1e-5)
    if architecture == "gptneox":
        values["gptneox.rope.dimension_count"] = np.uint32(4)
        values["gptneox.use_parallel_residual"] = np.bool_(True)
    rope = getattr(config, "rope_parameters", None) or {}
    rope = rope.get("full_attention", rope)
    if "rope_theta" in rope:
        values[f"{architecture}.rope.freq_base"] = np.float32(rope["rope_theta"])
    return {"general.architecture": architecture, **values, **tokenizer(config.vocab_size)}


def tokenizer(vocab):
    """The toy's, with its end of text in the last row of a small embedding."""
    values = toy.tokenizer_metadata()
    words = [one for one in values["tokenizer.ggml.tokens"] if one != "<|endoftext|>"]
    words.insert(vocab - 1, "<|endoftext|>")
    types = np.array([3 if one.startswith("<|") else 1 for one in words], np.int32)
    return values | {"tokenizer.ggml.tokens": words, "tokenizer.ggml.token_type": types}


def converted(architecture, config, name, array):
    """What llama.cpp's converter does to a tensor besides naming it."""
    if architecture.startswith("gemma") and name.endswith("norm.weight"):
        return array + 1
    if architecture == "gpt2" and array.ndim == 2 and ".c_" in name:
        return array.T
    if architecture == "gptneox" and "query_key_value" in name:
        heads = array.reshape(config.num_attention_heads, 3, -1, *array.shape[1:])
        return heads.swapaxes(0, 1).reshape(array.shape)
    if architecture == "llama" and ("q_proj" in name or "k_proj" in name):
        heads = array.reshape(-1, 2, config.head_dim // 2, *array.shape[1:])
        return heads.swapaxes(1, 2).reshape(array.shape)
    return array


FAMILIES = {families.gguf(name).name: name for name in families.names() if families.gguf(name)}


def made(architecture):
    case, given = CASES.get(architecture, (FAMILIES[architecture], {}))
    return hf.model(case, **given) if case in hf.FAMILIES else hf.small(case, **given)


@pytest.mark.parametrize("architecture", FAMILIES)
def test_a_gguf_file_computes_what_its_folder_does(architecture, tmp_path):
    model = made(architecture)
    folder = load("x", hf.save(model, tmp_path))
    numbers = {name: number for number, name in gguf.MODEL_ARCH_NAMES.items()}
    theirs = gguf.get_tensor_name_map(numbers[architecture], model.config.num_hidden_layers)
    tensors = {}
    for name, value in model.state_dict().items():
        if name == "lm_head.weight" and model.config.tie_word_embeddings:
            continue
        array = converted(architecture, model.config, name, value.numpy())
        renamed = theirs.get_name(name, try_suffixes=(".weight", ".bias"))
        tensors[renamed] = (gguf_files.F32, array.shape, np.ascontiguousarray(array).tobytes())
    values = metadata(architecture, model.config)
    path = gguf_files.write(tmp_path / "x.gguf", values, tensors)
    (tmp_path / "tokenizer.json").unlink()
    lm = load("x", path)
    assert lm.separator == 60
    jax.tree.map(np.testing.assert_array_equal, lm.params, folder.params)
    logits_BTV, _ = jax.jit(lm.forward)(lm.params, hf.TOKENS_BT)
    expected_BTV, _ = jax.jit(folder.forward)(folder.params, hf.TOKENS_BT)
    np.testing.assert_allclose(logits_BTV, expected_BTV, atol=1e-4)
