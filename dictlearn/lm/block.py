"""One block of a decoder, with its taps: attention and an MLP, each added to the residual stream.

    x += Attention(norm(x));  x += MLP(norm(x))
    norm(x) = g x / sqrt(mean(x^2) + eps),   MLP(x) = (act(x W_gate) * (x W_up)) W_down

is Llama's. `decoder` has the sources, and the fields of `spec.Spec` the differences of the other families.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from dictlearn.lm.attention import attend, wide
from dictlearn.lm.frozen import Keep, free
from dictlearn.lm.spec import Params, Spec

_ACT = {
    "silu": jax.nn.silu,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "gelu_tanh": lambda x: jax.nn.gelu(x, approximate=True),
}
HEADS = (("q", "DH"), ("k", "DG"), ("v", "DG"))


def untapped(name: str, activation: jax.Array) -> jax.Array:
    """The tap of a pass whose activations nobody reads or changes."""
    return activation


def norm(
    spec: Spec, leaves: Params, name: str, letter: str, x: jax.Array, size: Callable, kind: str = ""
) -> jax.Array:
    """The norm `name` over the last axis, computed in float32; the result has the dtype of x.

    Args:
        spec: the hyperparameters.
        leaves: the parameters that have the gain `{name}_{letter}`.
        name, letter: the name of the gain, and its axis letter.
        x: the activation.
        size: of (a function that computes the denominator), the denominator to use.
        kind: "rms" or "layer"; empty for that of the spec.

    Returns:
        The normed activation.
    """
    centred, kind = wide(x), kind or spec.norm
    if kind == "layer":
        centred = centred - centred.mean(axis=-1, keepdims=True)
    square = lambda: jnp.sqrt(jnp.mean(centred**2, axis=-1, keepdims=True) + spec.norm_eps)
    scaled = wide(leaves[f"{name}_{letter}"]) * (centred / size(square))
    if kind == "layer":
        scaled = scaled + wide(leaves[f"{name}_bias_{letter}"])
    return scaled.astype(x.dtype)


class Block:
    """One block with its parameters and settings, so that its parts read as equations. tap: of (name with the
    layer, activation). keep: what is held constant. attend: (layer, queries, keys, values) -> the outputs of
    the heads."""

    def __init__(
        self,
        spec: Spec,
        block: Params,
        layer: int,
        tap: Callable = untapped,
        keep: Keep = free,
        attend: Callable | None = None,
    ):
        self.spec, self.block, self.layer = spec, block, layer
        self.tap = lambda name, activation: tap(f"{name}.{layer}", activation)
        self.keep = lambda name, compute: keep(f"{name}.{layer}", compute)
        self.attend = attend or self._attend

    def _attend(self, layer: int, *heads: jax.Array) -> jax.Array:
        return attend(self.spec, layer, *heads, keep=functools.partial(self.keep, "pattern"))

    def linear(self, x: jax.Array, name: str, letters: str) -> jax.Array:
        y = x @ self.block[f"W_{name}_{letters}"]
        bias = self.block.get(f"b_{name}_{letters[1]}")
        return y if bias is None else y + bias

    def norm(self, x: jax.Array, name: str, letter: str = "D", kind: str = "") -> jax.Array:
        size = functools.partial(self.keep, name)
        return norm(self.spec, self.block, name, letter, x, size, kind)

    def heads(self, x_BTD: jax.Array, name: str, letters: str) -> jax.Array:
        """Projections split into heads, [B, T, heads, width], normed where the spec norms them."""
        x_BThw = self.linear(x_BTD, name, letters)
        x_BThw = x_BThw.reshape(*x_BTD.shape[:2], -1, self.spec.head_dim)
        if not self.spec.qk_norm or name == "v":
            return x_BThw
        return self.norm(x_BThw, f"{name}_norm", "W", "rms")

    def attention(self, x_BTD: jax.Array) -> jax.Array:
        in_BTD = self.tap("attn_in", self.norm(x_BTD, "attn_norm"))
        z_BTH = self.attend(self.layer, *(self.heads(in_BTD, *one) for one in HEADS))
        out_BTD = self.linear(self.tap("attn_z", z_BTH), "o", "HD")
        if self.spec.post_norms:
            out_BTD = self.norm(out_BTD, "attn_post_norm")
        return self.tap("attn_out", out_BTD)

    def mlp(self, x_BTD: jax.Array) -> jax.Array:
        in_BTD = self.tap("mlp_in", self.norm(x_BTD, "mlp_norm"))
        return self.tap("mlp_out", self.keep("mlp", lambda: self._mlp(in_BTD)))

    def _mlp(self, in_BTD: jax.Array) -> jax.Array:
        act = _ACT[self.spec.activation]
        up_BTM = self.linear(in_BTD, "up", "DM")
        gated = self.spec.gated
        act_BTM = act(self.linear(in_BTD, "gate", "DM")) * up_BTM if gated else act(up_BTM)
        out_BTD = self.linear(self.tap("mlp_act", act_BTM), "down", "MD")
        return self.norm(out_BTD, "mlp_post_norm") if self.spec.post_norms else out_BTD

    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        mid_BTD = self.tap("resid_mid", x_BTD + self.attention(x_BTD))
        return self.tap("resid", mid_BTD + self.mlp(x_BTD if self.spec.parallel else mid_BTD))
