"""Archetypal SAE: every atom points to within `delta` of the convex hull of fixed candidate points.

    H = W C + Lambda      W >= 0, rows sum to 1      |Lambda_i| <= delta      C: k-means centres of the data
    d_i = h_i / |h_i|     (d_i = h_i without `unit_atoms`)
    z = (x - b_dec) W_enc + b_enc      f = activation(z), TopK by default      yhat = f D + b_dec

After every update W is rectified and its rows are divided by their sums, and rows of Lambda longer than
delta are shortened to delta. `delta` is on the scale of the inputs (in the paper: standardised inputs,
delta = 1). `start` finds C, relative to b_dec, in a sample of the stream. Every atom starts at a random point
of C; the points differ while there are enough. Its encoder row starts at the atom divided by its squared norm.

Source: Fel et al. 2025 (arXiv:2502.12892), A-SAE (delta = 0) and RA-SAE. The bound on Lambda is that of
their code; the text bounds the squared norm.

Differs: atoms have unit norm, without which TopK compares coefficients of atoms of different norms. In the
paper the atoms have the norm of their point in the hull, times a common multiplier exp(m), which we leave out.
In the paper atom i starts at point i, and is zero where there are too few points. A row of W that would be all
zero becomes uniform. AuxK is ours.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from dictlearn.dictionaries._linear import Linear
from dictlearn.ops.initialise import unit_rows
from dictlearn.ops.kmeans import kmeans
from dictlearn.types import Batch, Scalar


class Archetypal(Linear):
    """The dictionary, with these hyperparameters.

    Args:
        delta: the bound on |Lambda_i|, which may be traced.
        unit_atoms: whether atoms are scaled to unit norm, as free atoms are, or stay in the hull as in
            the paper.
        n_points: the number of candidate points, None for 2 F but at most 32,000 (the paper's number).
        seed: the seed of k-means, None to use the learner's key (dictionaries with the same seed and the
            same stream have the same points).
        d_out: the width of the target of a transcoder, whose atoms lie among its targets.

    The other fields are as in `Linear`.
    """

    delta: Scalar = 1.0
    unit_atoms: bool = True
    n_points: int | None = None
    seed: int | None = 0

    def _check(self):
        super()._check()
        if isinstance(self.delta, int | float) and self.delta < 0:
            raise ValueError(f"delta={self.delta} is a distance and must not be negative.")
        if self._n_points < 1:
            raise ValueError(f"n_points={self._n_points} must be at least 1.")

    def _declare(self):
        n, d_out = self.n_latents, self.d_out or self.d_in
        rows = lambda key: self.enc_scale * unit_rows(key, (n, self.d_in))
        self.W_enc_FD = self.param("W_enc_FD", rows)
        self._declare_biases()
        self.mix_FC = self.param("mix_FC", self._one_hot, n)
        self.drift_FD = self.param("drift_FD", nn.initializers.zeros, (n, d_out))
        first = lambda: unit_rows(jax.random.key(0), (self._n_points, d_out))
        self.points_CD = self.variable("stats", "points_CD", first)

    def start(self, key: jax.Array, variables: dict, batch: Batch) -> dict:
        """`variables` with the candidate points found in `batch`, and with atoms and encoder initialised at
        them."""
        k_mix, k_mean = jax.random.split(key)
        k_mean = k_mean if self.seed is None else jax.random.key(self.seed)
        params, stats = variables["params"], variables["stats"]
        points_CD = kmeans(k_mean, batch.y_BD - params["b_dec_D"], self._n_points)
        mix_FC = self._one_hot(k_mix, self.n_latents)
        params = {**params, "mix_FC": mix_FC.astype(params["mix_FC"].dtype)}
        if self.d_out is None:
            atoms_FD = self._scaled(mix_FC @ points_CD)
            square_F1 = jnp.sum(atoms_FD**2, 1, keepdims=True)
            params["W_enc_FD"] = self.enc_scale * atoms_FD / jnp.where(square_F1 > 0, square_F1, 1)
        stats = {**stats, "points_CD": points_CD}
        return super().start(key, {**variables, "params": params, "stats": stats}, batch)

    def project(self, params: dict) -> dict:
        """`params` with the rows of W in the simplex and Lambda within its bound."""
        mix_FC = jax.nn.relu(params["mix_FC"])
        sum_F1 = mix_FC.sum(1, keepdims=True)
        mix_FC = jnp.where(
            sum_F1 > 0, mix_FC / jnp.where(sum_F1 > 0, sum_F1, 1), 1 / self._n_points
        )
        length_F1 = jnp.linalg.norm(params["drift_FD"], axis=1, keepdims=True)
        shrink_F1 = jnp.minimum(1, self.delta / jnp.maximum(length_F1, 1e-12))
        return {**params, "mix_FC": mix_FC, "drift_FD": params["drift_FD"] * shrink_F1}

    def atoms(self):
        """D `[F, D]`."""
        points_CD = self.points_CD.value.astype(self.mix_FC.dtype)
        return self._scaled(self.mix_FC @ points_CD + self.drift_FD)

    def _scaled(self, hull_FD):
        """Atoms from points of the hull; a point at zero stays zero."""
        if not self.unit_atoms:
            return hull_FD
        square_F1 = jnp.sum(hull_FD**2, 1, keepdims=True)
        return hull_FD / jnp.sqrt(jnp.where(square_F1 > 0, square_F1, 1))

    @property
    def _n_points(self) -> int:
        return min(2 * self.n_latents, 32_000) if self.n_points is None else self.n_points

    def _one_hot(self, key, n: int):
        """Each row selects one random point, different points while there are enough."""
        order_C = jax.random.permutation(key, self._n_points)
        return jax.nn.one_hot(order_C[jnp.arange(n) % self._n_points], self._n_points)
