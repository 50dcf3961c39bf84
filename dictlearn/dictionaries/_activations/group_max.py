"""GroupMax: the latents form k groups, and the largest pre-activation of each group fires.

    f_i = ReLU(z_i) * [z_i largest of its group]      group of latent i = floor(i / ceil(F / k))

No sort is needed: one pass finds the k maxima. Two latents of one group never fire together.

Source: the activation "groupmax" of EleutherAI's sparsify (fused_encoder.py); we know of no paper.

Differs: F need not be a multiple of k, and the last group is then smaller; AuxK is as in our TopK.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from dictlearn.dictionaries._activations import Activation, Few, Weight
from dictlearn.types import Codes


class GroupMax(Activation):
    """The activation, with these hyperparameters.

    Args:
        k: the number of groups, which bounds the active latents of a token.
    """

    k: int

    def setup(self):
        n, k = self.n_latents, self.k
        if not 1 <= k <= n or (k - 1) * -(-n // k) >= n:
            raise ValueError(f"{k=} groups of ceil(F / k) do not fit {n=} latents; let k divide F.")

    def choose(self, pre_BF: Float[Array, "B F"], weight: Weight, dead_F: Bool[Array, " F"]) -> Few:
        val_BK, idx_BK = self._largest(pre_BF)
        return Few(val_BK, idx_BK, val_BK > 0)

    def infer(self, pre_BF: Float[Array, "B F"], weight: Weight) -> Codes:
        _, idx_BK = self._largest(pre_BF)
        return Codes(jax.nn.relu(jnp.take_along_axis(pre_BF, idx_BK, axis=1)), idx_BK)

    def _largest(self, pre_BF):
        """The largest pre-activation of each group, without gradient, and the index of its latent."""
        size = -(-self.n_latents // self.k)
        lacking = size * self.k - self.n_latents
        pre_BF = lax.stop_gradient(pre_BF)
        full = jnp.pad(pre_BF, ((0, 0), (0, lacking)), constant_values=-jnp.inf)
        groups = full.reshape(len(full), self.k, size)
        return groups.max(-1), groups.argmax(-1) + size * jnp.arange(self.k)
