"""Small random models of transformers, saved as Hugging Face saves them, and what they compute."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers

from dictlearn.lm import families

SIZES: dict[str, Any] = {
    **{"vocab_size": 61, "hidden_size": 24, "intermediate_size": 28, "num_hidden_layers": 2},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 6},
    **{"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0},
}
SMALL: dict[str, Any] = {
    **SIZES,
    **{"hidden_size": 32, "head_dim": 12, "max_position_embeddings": 16},
    **{"sliding_window": 3, "window_size": 3, "max_window_layers": 1},
    **{"query_pre_attn_scalar": 9, "attn_logit_softcapping": 0.5, "final_logit_softcapping": 1.5},
}
TOKENS_BT = np.random.default_rng(0).integers(0, 61, (2, 11))
LLAMA3 = {
    **{"rope_type": "llama3", "rope_theta": 100.0, "factor": 8.0, "low_freq_factor": 1.0},
    **{"high_freq_factor": 4.0, "original_max_position_embeddings": 64},
}
GEMMA = SIZES | {"query_pre_attn_scalar": 9, "sliding_window": 3, "num_hidden_layers": 4}
LINEAR = {"rope_type": "linear", "rope_theta": 1e6, "factor": 2.0}
GPT2 = {"vocab_size": 61, "n_embd": 24, "n_layer": 2, "n_head": 4, "n_positions": 16}
NEOX = {key: SIZES[key] for key in SIZES if key not in ("num_key_value_heads", "head_dim")}
NEOX["num_attention_heads"] = 3
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("GPT2", GPT2 | {"bos_token_id": 2, "eos_token_id": 2}),
    "gpt_neox": ("GPTNeoX", NEOX | {"rotary_pct": 0.5, "rotary_emb_base": 50.0}),
    "gpt_neox_sequential": ("GPTNeoX", NEOX | {"use_parallel_residual": False}),
    "llama": ("Llama", SIZES),
    "llama_biased_tied": (
        "Llama",
        SIZES | {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True},
    ),
    "llama3": ("Llama", SIZES | {"rope_parameters": LLAMA3}),
    "mistral": ("Mistral", SIZES | {"sliding_window": 4}),
    "qwen2": ("Qwen2", SIZES | {"tie_word_embeddings": True}),
    "qwen2_sliding": (
        "Qwen2",
        SIZES | {"use_sliding_window": True, "sliding_window": 3, "max_window_layers": 1},
    ),
    "qwen3": ("Qwen3", SIZES),
    "gemma2": (
        "Gemma2",
        GEMMA | {"attn_logit_softcapping": 0.5, "final_logit_softcapping": 1.5},
    ),
    "gemma3": (
        "Gemma3Text",
        GEMMA
        | {
            "layer_types": ["sliding_attention", "full_attention"] * 2,
            "rope_parameters": {
                "sliding_attention": {"rope_type": "default", "rope_theta": 30.0},
                "full_attention": LINEAR,
            },
        },
    ),
}
EVEN = {"vocab_size": 64, "num_attention_heads": 4}
SHARDED = {
    "gpt_neox_even": ("GPTNeoX", NEOX | EVEN | {"rotary_pct": 1.0}),
    "gemma3_even": ("Gemma3Text", FAMILIES["gemma3"][1] | EVEN),
}
"""Case -> (prefix of transformers' class names, arguments of its configuration); the second table
holds what divides by four."""

_MODULES = {
    "gpt2": {
        **{"embed": "drop", "attn_in": "ln_1", "attn_out": "attn.c_proj", "mlp_in": "ln_2"},
        **{"mlp_act": "<mlp.c_proj", "mlp_out": "mlp", "resid": "", "final": "ln_f"},
        **{"attn_z": "<attn.c_proj", "blocks": "h", "resid_mid": "<ln_2"},
    },
    "gpt_neox": {
        **{"embed": "embed_in", "attn_in": "input_layernorm", "attn_out": "attention.dense"},
        **{"mlp_in": "post_attention_layernorm", "mlp_act": "<mlp.dense_4h_to_h"},
        **{"mlp_out": "mlp", "resid": "", "final": "final_layer_norm", "blocks": "layers"},
        **{"attn_z": "<attention.dense"},
    },
    "llama": {
        **{"embed": "embed_tokens", "attn_in": "input_layernorm", "attn_out": "self_attn.o_proj"},
        **{"attn_z": "<self_attn.o_proj", "resid_mid": "<post_attention_layernorm"},
        **{"mlp_in": "post_attention_layernorm", "mlp_act": "<mlp.down_proj"},
        **{"mlp_out": "mlp", "resid": "", "final": "norm", "blocks": "layers"},
    },
}
_MODULES["gemma"] = _MODULES["llama"] | {
    **{"attn_out": "post_attention_layernorm", "resid_mid": "<pre_feedforward_layernorm"},
    **{"mlp_in": "pre_feedforward_layernorm", "mlp_out": "post_feedforward_layernorm"},
}
"""Tap -> module whose output it is, or whose input it is where the name begins with "<"."""


def model(case: str, **changed: Any) -> Any:
    """The model of a case: see `made_of`."""
    import transformers

    name, arguments = (FAMILIES | SHARDED)[case]
    return made_of(getattr(transformers, f"{name}Config")(**(arguments | changed)))


def small(family: str, **changed: Any) -> Any:
    """A small model of a family of the folder."""
    return made_of(small_config(family, **changed))


def small_config(family: str, **changed: Any) -> Any:
    """The configuration of a small model of a family of the folder: of the settings `SMALL`, those that its
    configuration class has, and what the family states itself."""
    import transformers

    kind = transformers.CONFIG_MAPPING[family]
    usual = kind()
    given = {key: value for key, value in SMALL.items() if hasattr(usual, key)}
    return kind(**(given | families.small(family) | changed))


def made_of(config: Any) -> Any:
    """A model whose every weight, norms and biases too, is far from its start."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import torch
        import transformers

        torch.manual_seed(0)
        made = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return made.eval()


def from_gguf(path: Path) -> Any:
    """A llama in a GGUF file, as transformers reads it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM
        from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint
        from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

        with torch.device("meta"):
            namesake = LlamaForCausalLM(LlamaConfig(num_hidden_layers=30))
        found = load_gguf_checkpoint(str(path), return_tensors=True, model_to_load=namesake)
        said, tensors = found["config"], found["tensors"]
        config = LlamaConfig(**{k: said[k] for k in said if k[0] != "_" and k != "model_type"})
        config._attn_implementation = "eager"
        with torch.device("meta"):
            made = LlamaForCausalLM(config)
        values = {k: torch.as_tensor(v) for k, v in tensors.items()}
        missing, unexpected = made.load_state_dict(values, strict=False, assign=True)
        assert (missing, unexpected) == (["lm_head.weight"], [])
        made.tie_weights()
        made.model.rotary_emb = LlamaRotaryEmbedding(config)
    return made.eval()


def save(made: Any, folder: Path, **arguments: Any) -> Path:
    """The model and a tokenizer of words, as `save_pretrained` lays them out."""
    made.save_pretrained(folder, **arguments)
    words = Tokenizer(
        models.WordLevel({f"w{i}": i for i in range(made.config.vocab_size)}, unk_token="w0")
    )
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.save(str(folder / "tokenizer.json"))
    return folder


def run(made: Any, tokens_BT: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The logits, and what stands at every tap that a module's input or output shows."""
    import torch

    family = made.config.model_type
    modules = _MODULES.get(family, _MODULES["gemma" if "gemma" in family else "llama"])
    body, taps, handles = made.base_model, {}, []

    def note(tap: str, module: Any, of_input: bool) -> None:
        def before(_, inputs):
            taps[tap] = inputs[0].detach().numpy()

        def after(_, inputs, output):
            output = output[0] if isinstance(output, tuple) else output
            taps[tap] = output.detach().numpy()

        register = module.register_forward_pre_hook if of_input else module.register_forward_hook
        handles.append(register(before if of_input else after))

    for tap, where in modules.items():
        name = where.removeprefix("<")
        if tap in ("embed", "final"):
            note(tap, body.get_submodule(name), False)
        elif tap != "blocks":
            for layer, block in enumerate(body.get_submodule(modules["blocks"])):
                note(f"{tap}.{layer}", block.get_submodule(name), where.startswith("<"))
    with torch.no_grad():
        logits_BTV = made(torch.from_numpy(tokens_BT)).logits.numpy()
    for handle in handles:
        handle.remove()
    return logits_BTV, taps
