"""Inference-time optimisation: keep the trained decoder, and encode by a pursuit at the same L0.

    f = pursuit of x - b in the atoms d_i / |d_i|, over |d_i|          yhat = f D + b

The error that remains under a pursuit is due to the atoms; the rest of the error was due to the encoder.
Atoms and bias are read from the decoder, which is affine in every variant: b = decode(0), d_i =
decode(e_i) - b. Atoms of zero are never selected.

Source: Smith 2024, "Replacing SAE encoders with inference-time optimisation"; Engels et al. 2024,
"Decomposing the dark matter of sparse autoencoders" (gradient pursuit, each token at its own L0).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from dictlearn.experiment import Member, Program
from dictlearn.ops.firing import l0
from dictlearn.ops.pursuit.gradient import gradient
from dictlearn.ops.pursuit.matching import merge, pursue
from dictlearn.ops.pursuit.orthogonal import orthogonal
from dictlearn.runs.trained import Run, Trained
from dictlearn.sharding import TABLE, axis_size
from dictlearn.types import Codes, Dictionary

METHODS = {"matching": pursue, "gradient": gradient, "orthogonal": orthogonal}


class Pursued(Dictionary):
    """`inner` with a pursuit as its encoder; it uses the variables of `inner`.

    method: one of METHODS. k: the number of steps of a token, which bounds its active latents. own_l0:
    whether a token takes as many steps as `inner` has active latents on it, at most k; otherwise it takes
    k. nonnegative: whether values are non-negative, as a trained encoder's mostly are; otherwise atoms
    are selected by magnitude. Encoding has no gradient. Raises ValueError for an unknown method, for more
    steps than latents, and for a transcoder, whose atoms do not explain its input.
    """

    inner: Dictionary
    method: str
    k: int
    own_l0: bool = True
    nonnegative: bool = True

    def setup(self):
        if self.method not in METHODS:
            raise ValueError(f"method={self.method!r} must be one of {', '.join(METHODS)}.")
        if not 1 <= self.k <= self.inner.n_latents:
            raise ValueError(f"k={self.k} must be between 1 and n_latents={self.inner.n_latents}.")
        if self.inner.d_out is not None:
            raise ValueError(
                f"d_out={self.inner.d_out}: the atoms of a transcoder explain its target, so a pursuit of its "
                "input cannot encode it; keep its own encoder."
            )
        nn.share_scope(self, self.inner)

    def encode(self, x_BD) -> Codes:
        b_BD, atoms_FD = self._affine(x_BD)
        norm_F = jnp.linalg.norm(atoms_FD, axis=1)
        norm_F = jnp.where(norm_F > 0, norm_F, 1)
        k = l0(self.inner.encode(x_BD)) if self.own_l0 else None
        val_BK, idx_BK, _ = METHODS[self.method](
            *(x_BD - b_BD, atoms_FD / norm_F[:, None], self.k),
            **{"k": k, "absolute": not self.nonnegative, "nonnegative": self.nonnegative},
        )
        val_BK = merge(val_BK, idx_BK) / norm_F[idx_BK]
        return lax.stop_gradient(Codes(val_BK.astype(x_BD.dtype), idx_BK))

    def decode(self, codes: Codes):
        return self.inner.decode(codes)

    @property
    def sources(self) -> int:
        return self.inner.sources

    @property
    def subtract_b_dec(self) -> bool:
        return self.inner.subtract_b_dec

    @property
    def foldable(self) -> bool:
        return False

    def _affine(self, x_BD):
        """b for each token, and the atoms; the number of decoded atoms is padded to a multiple of the
        devices."""
        none_B1 = jnp.zeros((len(x_BD), 1), x_BD.dtype)
        b_BD = self.decode(Codes(none_B1, none_B1.astype(jnp.int32)))
        n, ways = self.inner.n_latents, axis_size(TABLE["B"])
        place_F1 = jnp.minimum(jnp.arange(n + -n % ways), n - 1)[:, None]
        atoms_FD = self.decode(Codes(jnp.ones(place_F1.shape, x_BD.dtype), place_F1))
        return b_BD, atoms_FD[:n] - b_BD[0]


def with_pursuit_encoder(dictionary: Trained, method: str, k: int, **options) -> Trained:
    """Replaces the encoder of a dictionary by a pursuit, on raw activations as before.

    Args:
        dictionary: an autoencoder.
        method: "matching", "gradient" or "orthogonal".
        k: the largest number of active latents of a token.
        options: `own_l0` and `nonnegative`, see `Pursued`.

    Returns:
        The dictionary without metrics, because it has not been evaluated. It cannot be folded: fold it
        before.

    Raises:
        ValueError: when it is used, for an unknown method, a k beyond the latents, or a transcoder.

    Example:
        >>> import jax
        >>> from dictlearn import dictionaries
        >>> module = dictionaries.make("relu", d_in=4, n_latents=16, sparsity=0.1)
        >>> x_BD = jax.random.normal(jax.random.key(0), (8, 4))
        >>> variables = module.init(jax.random.key(1), x_BD, jnp.zeros(16, bool))
        >>> pursued = with_pursuit_encoder(Trained(module, variables), "matching", k=2)
        >>> pursued.encode(x_BD).val.shape
        (8, 2)
    """
    return replace(dictionary, module=_over(dictionary.module, method, k, **options), metrics={})


def with_pursuit_encoders(run: Run, methods: Sequence[str], k: int) -> Run:
    """Adds a copy of every dictionary of a run for each of these pursuits.

    Args:
        run: the run.
        methods: pursuits, of METHODS.
        k: the largest number of active latents of a token; each token has its own L0, at most k.

    Returns:
        The run with the copies: for `topk_n64_0` also `topk+gradient_n64_0`, with `encoder` in its hparams.
    """
    programs, variables = list(run.programs), dict(run.variables)
    for method in methods:
        for program in run.programs:
            k_max = min(k, program.n_latents)
            members = [_under(member, method, k_max) for member in program.members]
            new = program._replace(members=members, module=_wrap(program, method, k_max))
            programs.append(new)
            variables[new.key] = run.variables[program.key]
    return run._replace(programs=programs, variables=variables)


def _wrap(program: Program, method: str, k: int) -> Callable:
    return lambda hparams: _over(program.module(hparams), method, k)


def _over(inner: Dictionary, method: str, k: int, **options) -> Pursued:
    return Pursued(inner.d_in, inner.n_latents, inner, method, k, **options)


def _under(member: Member, method: str, k: int) -> Member:
    more = {"encoder": {"name": method, "k": k}}
    return member._replace(label=f"{member.label}+{method}", hparams=member.hparams | more)
