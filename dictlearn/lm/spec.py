"""The specification of a decoder: its hyperparameters, and the shapes of its parameters.

Parameters are nested dicts: `block_0`, `block_1`, ... and the parameters outside the blocks.
Leaf names end in their axis letters (`dictlearn.types`). Matrices are stored `[in, out]`; the leaf of a norm
is the gain itself.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

import jax
import jax.numpy as jnp

Params: TypeAlias = Mapping[str, Any]

NORMS = ("rms", "layer")
ACTIVATIONS = ("silu", "gelu", "gelu_tanh")


@runtime_checkable
class Shaped(Protocol):
    """The interface of the hyperparameters of any model, from which the shapes of its parameters follow."""

    @property
    def n_layers(self) -> int: ...

    def sizes(self) -> Mapping[str, int]:
        """The size of each axis letter."""
        ...

    def block_names(self) -> tuple[str, ...]:
        """The names of the parameters of one block."""
        ...

    def outer_names(self) -> tuple[str, ...]:
        """The names of the parameters outside the blocks."""
        ...


@dataclass(frozen=True)
class Spec:
    """The hyperparameters of a decoder, all static; the defaults are Llama's.

    Args:
        n_layers, d_model, n_heads, n_kv_heads, head_dim, d_mlp, vocab: sizes.
        tied: whether `embed_VD` is also the unembedding.
        norm, norm_eps: "rms", or "layer" with means and biases; its epsilon.
        activation, gated: the MLP is act(x W_gate) * (x W_up) if gated, else act(x W_up).
        bias_qkv, bias_o, bias_mlp: which matrices have biases.
        parallel: whether the MLP reads the input of the block, in parallel with attention.
        post_norms: whether norms follow attention and MLP, before the sum with the residual stream.
        qk_norm: whether each head of the queries and the keys has an RMS norm.
        positions: the rows of a learned table of positions; 0 for rotary positions.
        rope_base, rope_width: the base of the rotary frequencies; the number of dimensions of a head that
            turn, None for all.
        rope_divisors: the divisor of the frequency of each pair; empty for 1.
        sliding_layers, window: layers that attend to the last `window` positions only, including their own.
        local_rope_base: the rotary base of the sliding layers, without divisors; None for `rope_base`.
        embed_scale: a factor of the embedding.
        query_scale: a factor of the attention scores; None for head_dim^-0.5.
        attn_cap, logit_cap: scores or logits s become cap * tanh(s / cap).

    Raises:
        ValueError: for heads that do not divide into groups, an odd rotary width, an unknown norm or
            activation, and a layer or a window that does not exist.

    Example:
        >>> Spec(n_layers=2, d_model=4, n_heads=1, n_kv_heads=1, head_dim=4, d_mlp=8, vocab=5).sizes()["D"]
        4
    """

    n_layers: int
    d_model: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    d_mlp: int
    vocab: int
    rope_base: float = 10000.0
    norm_eps: float = 1e-5
    tied: bool = True
    norm: str = "rms"
    activation: str = "silu"
    gated: bool = True
    bias_qkv: bool = False
    bias_o: bool = False
    bias_mlp: bool = False
    parallel: bool = False
    post_norms: bool = False
    qk_norm: bool = False
    positions: int = 0
    rope_width: int | None = None
    rope_divisors: tuple[float, ...] = ()
    local_rope_base: float | None = None
    window: int | None = None
    sliding_layers: tuple[int, ...] = ()
    embed_scale: float = 1.0
    query_scale: float | None = None
    attn_cap: float | None = None
    logit_cap: float | None = None

    def __post_init__(self):
        if self.n_heads % self.n_kv_heads:
            raise ValueError(f"{self.n_heads=} is not a multiple of {self.n_kv_heads=}.")
        width = self.head_dim if self.rope_width is None else self.rope_width
        if not self.positions and (width % 2 or not 0 < width <= self.head_dim):
            raise ValueError(
                f"{self.head_dim=} is odd, or {self.rope_width=} is, or is larger: rotary positions"
                " pair a head's dimensions."
            )
        if len(self.rope_divisors) not in (0, width // 2):
            raise ValueError(f"{len(self.rope_divisors)=} for {width // 2} rotary pairs.")
        for name, known in (("norm", NORMS), ("activation", ACTIVATIONS)):
            if getattr(self, name) not in known:
                raise ValueError(f"Unknown {name} {getattr(self, name)!r}; known: {known}.")
        if not set(self.sliding_layers) <= set(range(self.n_layers)):
            raise ValueError(f"{self.sliding_layers=} names layers outside 0..{self.n_layers - 1}.")
        if self.sliding_layers and not (self.window and self.window > 0):
            raise ValueError(f"{self.window=}, but layers {self.sliding_layers} slide: at least 1.")

    def sizes(self) -> dict[str, int]:
        return {
            "D": self.d_model,
            "H": self.n_heads * self.head_dim,
            "G": self.n_kv_heads * self.head_dim,
            "W": self.head_dim,
            "M": self.d_mlp,
            "V": self.vocab,
            "T": self.positions,
        }

    def block_names(self) -> tuple[str, ...]:
        optional = (
            (self.bias_qkv, ("b_q_H", "b_k_G", "b_v_G")),
            (self.bias_o, ("b_o_D",)),
            (self.qk_norm, ("q_norm_W", "k_norm_W")),
            (self.gated and self.bias_mlp, ("b_gate_M",)),
            (self.bias_mlp, ("b_up_M", "b_down_D")),
            (self.post_norms, self._norm("attn_post_norm") + self._norm("mlp_post_norm")),
        )
        attention = (*self._norm("attn_norm"), "W_q_DH", "W_k_DG", "W_v_DG", "W_o_HD")
        gate = ("W_gate_DM",) if self.gated else ()
        mlp = (*self._norm("mlp_norm"), *gate, "W_up_DM", "W_down_MD")
        return (*attention, *mlp, *(name for has, names in optional if has for name in names))

    def outer_names(self) -> tuple[str, ...]:
        positions = ("position_TD",) if self.positions else ()
        unembed = () if self.tied else ("unembed_DV",)
        return ("embed_VD", *positions, *self._norm("norm"), *unembed)

    def _norm(self, name: str) -> tuple[str, ...]:
        """The parameters of a norm over the residual stream."""
        return (f"{name}_D", f"{name}_bias_D") if self.norm == "layer" else (f"{name}_D",)


def shape_of(spec: Shaped, leaf: str) -> tuple[int, ...]:
    """The shape of a parameter, from the axis letters of its name.

    Args:
        spec: the hyperparameters.
        leaf: the name of the parameter.

    Returns:
        The shape.
    """
    sizes = spec.sizes()
    return tuple(sizes[letter] for letter in leaf.rsplit("_", 1)[1])


def build(spec: Shaped, leaf: Callable[[str, int | None], Any]) -> dict[str, Any]:
    """Builds a tree of parameters.

    Args:
        spec: the hyperparameters.
        leaf: makes the parameter of (name, layer); the layer is None outside the blocks.

    Returns:
        Nested dicts of parameters.
    """
    params: dict[str, Any] = {name: leaf(name, None) for name in spec.outer_names()}
    for layer in range(spec.n_layers):
        params[f"block_{layer}"] = {name: leaf(name, layer) for name in spec.block_names()}
    return params


def random_params(spec: Spec, key: jax.Array) -> dict[str, Any]:
    """Random float32 parameters: norms one, biases zero, matrices normal with standard deviation d_model^-1/2.

    The standard deviation of matrices that write to the residual stream is further divided by
    sqrt(2 n_layers), as in GPT-2.

    Args:
        spec: the hyperparameters.
        key: a PRNG key.

    Returns:
        Nested dicts of parameters.
    """
    n_leaves = len(spec.outer_names()) + spec.n_layers * len(spec.block_names())
    keys = iter(jax.random.split(key, n_leaves))

    def leaf(name: str, layer: int | None) -> jax.Array:
        fresh, shape = next(keys), shape_of(spec, name)
        if len(shape) == 1:
            return jnp.full(shape, float("norm" in name and "bias" not in name))
        writes = name in ("W_o_HD", "W_down_MD")
        scale = spec.d_model**-0.5 / (math.sqrt(2 * spec.n_layers) if writes else 1)
        return scale * jax.random.normal(fresh, shape)

    return build(spec, leaf)
