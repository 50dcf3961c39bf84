"""Qwen 2 and 3: Llama with sliding windows in the last layers, if the config enables them."""

from typing import Any

from dictlearn.lm.families._config import Config
from dictlearn.lm.families._llama import llama_spec
from dictlearn.lm.families._windows import sliding_layers
from dictlearn.lm.spec import Spec


def qwen_spec(config: Config, **fields: Any) -> Spec:
    first = config.maybe("max_window_layers", 28, int)
    if not config.flag("use_sliding_window", False):
        if sliding_layers(config, lambda layer: False):
            raise ValueError("config.json: layer_types slide, and use_sliding_window is false.")
        config.get("sliding_window")
        return llama_spec(config, **fields)
    sliding = sliding_layers(config, lambda layer: layer >= (first or 0))
    window = config.number("sliding_window")
    return llama_spec(config, window=window, sliding_layers=sliding, **fields)
