"""The neurons of a tap as a dictionary: every dimension of the activation is a latent, without an error."""

import jax

from dictlearn.ops.firing import dense
from dictlearn.runs.trained import Site, Trained
from dictlearn.types import Codes, Dictionary, Tokens


class _Neurons(Dictionary):
    """f = x, and x = f."""

    def encode(self, x_BD: Tokens) -> Codes:
        return Codes(jax.numpy.asarray(x_BD))

    def decode(self, codes: Codes) -> jax.Array:
        return dense(codes, self.n_latents)


def neurons(tap: str, width: int) -> Trained:
    """The standard basis of a tap, beside which a dictionary is measured.

    Args:
        tap: the tap, which it reads and writes.
        width: the width of the tap.

    Returns:
        A dictionary whose latent i is dimension i.

    Example:
        >>> own = neurons("resid.3", 4)
        >>> own.name, own.encode(jax.numpy.ones((1, 4))).val.tolist()
        ('resid.3', [[1.0, 1.0, 1.0, 1.0]])
    """
    return Trained(_Neurons(width, width), {}, sites=(Site({}, (tap,), (tap,), {}),), name=tap)
