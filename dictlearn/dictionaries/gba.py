"""GBA: tied unit atoms whose biases hold each latent at a firing frequency, without a penalty and without k.

    z = (x - b_dec) d      y = z + b_enc      f = a phi      yhat = f D + b_dec
    activation "jumprelu"  phi = z [y > 0]    the gate reads the bias, the value does not
               "relu"      phi = max(y, 0)
    group k of K           p_k = p_1 (p_K / p_1)^((k - 1) / (K - 1))

The biases have no gradient: the rule `adapt_bias`, which wraps this dictionary's rule by default, moves them.
It lowers the bias of a latent that fires on more than its share p_k of the tokens, and raises the biases of
dead latents. One group is bias adaptation (BA). a = exp(log_scale) is learned. `start` sets each bias at the
quantile of its latent's frequency, at most 0. The rule's `lowest` bounds it below: -1 is for inputs of norm 1.

Source: Chen et al. 2025 (arXiv:2506.14002), sections 3 and 5 and appendix B.2, read at second hand. The paper's
settings: inputs `token_unit` or `unit_mean_sq`, atoms held at unit norm by the rule (`unit_norm`), batches of
512, 50 steps between bias updates. The paper's loss is half of `squared_error`, which is the same under Adam.
The first version has p_1 0.1 and p_K 0.001 over 10 groups; the next version has 0.5 and 0.001 or 0.0001.

UNSURE: which of the two activations a figure of the paper used (there too, the gated one is for language
models), the initial a (1 here) and the initial b (0 in the paper).

Differs: the quantile start. From zero, half of all latents fire at the first step, and learning is slow
or fails. "relu" fails on planted data where "jumprelu" recovers, because atoms turn faster than biases
fall.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Bool, Float

from dictlearn.dictionaries import _atoms, _linear
from dictlearn.ops.topk.quantile import column_quantile
from dictlearn.types import Batch, Codes, Dictionary, Out, Scalar, Tokens

ACTIVATIONS = ("jumprelu", "relu")
MOST_TOKENS = 8192
SPREAD, MOST_DENSE = 0.01, 0.5
"""Of a recommendation: p_K / p_1, as published, and the largest p_1."""


class GBA(Dictionary):
    """The dictionary, with these hyperparameters.

    Args:
        d_in: the width of the input.
        n_latents: F.
        density_high, density_low: p_1 and p_K, as shares of the tokens, which may be traced.
        groups: K, whose sizes differ by at most one (with one group, p_1 applies to every latent).
        activation: "jumprelu" or "relu".
        quantile_start: whether biases start from a sample, or else at zero.
        scale_start: the initial value of every a.
        d_out: must be None.
    """

    transcodes: ClassVar[bool] = False
    wrapped_by: ClassVar[str] = "adapt_bias"

    d_in: int
    n_latents: int
    density_high: Scalar = 0.1
    density_low: Scalar = 0.001
    groups: int = 10
    activation: str = "jumprelu"
    quantile_start: bool = True
    scale_start: Scalar = 1.0
    d_out: int | None = None

    @classmethod
    def recommended(cls, *, d_in: int, n_latents: int, steps: int, l0: float) -> dict:
        mean = sum(SPREAD ** (group / (cls.groups - 1)) for group in range(cls.groups)) / cls.groups
        high = min(MOST_DENSE, l0 / n_latents / mean)
        rule = {"name": "adapt_bias", "every": max(1, min(50, steps // 80)), "lowest": -(d_in**0.5)}
        densities = {"density_high": high, "density_low": SPREAD * high}
        return {"dictionary": densities, "revive": rule}

    def setup(self):
        if self.activation not in ACTIVATIONS:
            raise ValueError(
                f"activation={self.activation!r} must be one of {', '.join(ACTIVATIONS)}."
            )
        if not 1 <= self.groups <= self.n_latents:
            raise ValueError(
                f"groups={self.groups} must be at least 1 and at most n_latents={self.n_latents}."
            )
        densities = {"density_high": self.density_high, "density_low": self.density_low}
        for name, value in densities.items():
            if isinstance(value, int | float) and not 0 < value < 1:
                raise ValueError(f"{name}={value} is a share of the tokens, between 0 and 1.")
        if isinstance(self.scale_start, int | float) and not self.scale_start > 0:
            raise ValueError(f"scale_start={self.scale_start} must be positive.")
        _atoms.declare(self)
        self.b_enc_F = self.param("b_enc_F", nn.initializers.zeros, (self.n_latents,))
        log_scale = lambda key: jnp.full(self.n_latents, jnp.log(self.scale_start))
        self.log_scale_F = self.param("log_scale_F", log_scale)

    def targets(self) -> Float[Array, " F"]:
        """p, `[F]`: the share of tokens on which each latent may fire. Latents with equal values form a
        group."""
        group_F = jnp.arange(self.n_latents) * self.groups // self.n_latents
        step_K = jnp.arange(self.groups) / max(1, self.groups - 1)
        return (self.density_high * (self.density_low / self.density_high) ** step_K)[group_F]

    def start(self, key: jax.Array, variables: dict, batch: Batch) -> dict:
        """`variables` with b_enc set so that each latent fires on its share of the batch's tokens."""
        if not self.quantile_start:
            return variables
        params = variables["params"]
        x_BD = batch.x_BD[:MOST_TOKENS] - params["b_dec_D"]
        quantile_F = column_quantile(x_BD @ params["W_dec_FD"].T, 1 - self.targets())
        return {**variables, "params": {**params, "b_enc_F": jnp.minimum(-quantile_F, 0)}}

    def encode(self, x_BD: Tokens) -> Codes:
        return self._codes(x_BD)[0]

    def decode(self, codes: Codes) -> Float[Array, "B D"]:
        return _linear.decode(self, codes)

    def __call__(self, x_BD: Tokens, dead_F: Bool[Array, " F"]) -> Out:
        codes, pre_BF = self._codes(x_BD)
        return Out(self.decode(codes), codes, lax.stop_gradient(pre_BF))

    def _codes(self, x_BD):
        z_BF = _linear.centre(self, x_BD) @ self.W_dec_FD.T
        pre_BF = z_BF + lax.stop_gradient(self.b_enc_F)
        phi_BF = jnp.where(pre_BF > 0, z_BF if self.activation == "jumprelu" else pre_BF, 0)
        return Codes(phi_BF * jnp.exp(self.log_scale_F)), pre_BF
