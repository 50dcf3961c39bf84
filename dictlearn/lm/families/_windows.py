"""The layers with a sliding window in a `config.json`."""

from collections.abc import Callable

from dictlearn.lm.families._config import Config


def sliding_layers(config: Config, default: Callable[[int], bool]) -> tuple[int, ...]:
    """The sliding layers by `layer_types`, or else by `default(layer)`.

    Raises ValueError for an unknown kind of attention, or a wrong number of layers.
    """
    n_layers, kinds = config.number("num_hidden_layers"), config.get("layer_types")
    if kinds is None:
        return tuple(layer for layer in range(n_layers) if default(layer))
    if len(kinds) != n_layers or not set(kinds) <= {"sliding_attention", "full_attention"}:
        raise ValueError(
            f"config.json: layer_types of {len(kinds)} layers for {n_layers}, holding"
            f" {sorted(set(kinds))}; known: 'full_attention', 'sliding_attention'."
        )
    return tuple(layer for layer, kind in enumerate(kinds) if kind == "sliding_attention")
