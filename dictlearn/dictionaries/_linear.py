"""The parameters that every variant with a linear encoder and a linear decoder declares."""

import jax.numpy as jnp
from flax import linen as nn

from dictlearn.ops import sparse
from dictlearn.ops.initialise import unit_rows
from dictlearn.types import Codes


def declare(module, enc_scale: float = 1.0) -> None:
    """Declare W_dec_FD (unit rows), W_enc_FD (its copy times `enc_scale`), b_enc_F and b_dec_D on
    `module`, from its fields d_in, n_latents and d_out. Called from `setup`.

    The encoder starts as the decoder's transpose; a transcoder whose widths differ starts with its
    own unit rows. Both are stored by latents, so that every gather and scatter is of rows."""
    n, d_in, d_out = module.n_latents, module.d_in, module.d_out or module.d_in
    if n < 1:
        raise ValueError(f"n_latents={n} must be at least 1.")
    module.W_dec_FD = module.param("W_dec_FD", unit_rows, (n, d_out))
    tied = lambda key: enc_scale * (module.W_dec_FD if d_in == d_out else unit_rows(key, (n, d_in)))
    module.W_enc_FD = module.param("W_enc_FD", tied)
    module.b_enc_F = module.param("b_enc_F", nn.initializers.zeros, (n,))
    module.b_dec_D = module.param("b_dec_D", nn.initializers.zeros, (d_out,))


def centre(module, x_BD):
    """The encoder's input: `x - b_dec` in an autoencoder, `x` in a transcoder."""
    return x_BD - module.b_dec_D if module.d_out is None else x_BD


def decode(module, codes: Codes):
    """`codes W_dec + b_dec`, from sparse or dense codes."""
    if codes.idx_BK is None:
        return jnp.asarray(codes.val) @ module.W_dec_FD + module.b_dec_D
    return sparse.decode(codes.val, codes.idx_BK, module.W_dec_FD) + module.b_dec_D
