"""For benchmarks/tools.py: SmolLM2, or a part of it, in TransformerLens, and scripts in other environments."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MODEL = """
import json, numpy, torch
torch.set_grad_enabled(False)
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast
told = json.load(open(f"{home}/model/config.json"))
end = "<|endoftext|>"
PreTrainedTokenizerFast(
    tokenizer_file=f"{home}/model/tokenizer.json", bos_token=end, eos_token=end, pad_token=end
).save_pretrained(f"{home}/tokenizer")
tokenizer = AutoTokenizer.from_pretrained(f"{home}/tokenizer")
tokens = numpy.load(f"{home}/tokens.npy")

def configured():
    from transformer_lens import HookedTransformerConfig
    heads = told["num_attention_heads"]
    return HookedTransformerConfig(
        n_layers=told["num_hidden_layers"], d_model=told["hidden_size"], d_head=told["head_dim"], n_heads=heads,
        n_key_value_heads=told["num_key_value_heads"], d_mlp=told["intermediate_size"], n_ctx=length,
        d_vocab=told["vocab_size"], act_fn="silu", gated_mlp=True, normalization_type="RMS", final_rms=True,
        eps=told["rms_norm_eps"], positional_embedding_type="rotary", rotary_dim=told["head_dim"],
        rotary_base=int(told["rope_theta"]), rotary_adjacent_pairs=False, model_name="smollm2", device="cpu",
        default_prepend_bos=False, original_architecture="LlamaForCausalLM", init_weights=False)

def filled(model):
    from transformer_lens.pretrained.weight_conversions import convert_llama_weights
    hf = AutoModelForCausalLM.from_pretrained(f"{home}/model", torch_dtype=torch.float32)
    state = convert_llama_weights(hf, model.cfg)
    whole = dict(fold_ln=False, center_writing_weights=False, center_unembed=False, fold_value_biases=False)
    model.load_and_process_state_dict(state, **whole)
    return model
"""

TRANSFORMER_LENS = """
from transformer_lens import HookedTransformer
model = filled(HookedTransformer(configured(), tokenizer))
"""


def ran(python: str, script: str, home: Path, **known: Any) -> dict[str, float]:
    """What a script finds in an environment; it knows the model, the tokens and `known`."""
    words = "".join(f"{name} = {value!r}\n" for name, value in {"home": str(home), **known}.items())
    end = "\nimport json\njson.dump(found, open(f'{home}/found.json', 'w'))\n"
    (home / "script.py").write_text(words + script + end)
    subprocess.run([python, str(home / "script.py")], check=True, cwd=home)
    return json.loads((home / "found.json").read_text())


def table(tool: str, theirs: Mapping[str, float], ours: Mapping[str, float]) -> None:
    for name in filter(theirs.__contains__, ours):
        change = abs(theirs[name] - ours[name]) / max(abs(ours[name]), 1e-9)
        print(f"| {tool} | {name} | {theirs[name]:.6g} | {ours[name]:.6g} | {change:.1e} |")
    for name in sorted(theirs.keys() - ours.keys()):
        print(f"| {tool} | {name} | {theirs[name]:.6g} | | |", flush=True)
