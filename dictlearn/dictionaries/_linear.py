"""The parameters that every variant with a linear encoder and a linear decoder declares."""

import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from dictlearn.ops import auxk
from dictlearn.ops.initialise import unit_rows
from dictlearn.ops.sparse import coding, support
from dictlearn.types import Codes, Out


def declare(module, enc_scale: float = 1.0, rows=unit_rows) -> None:
    """Declare W_dec_FD (unit rows), W_enc_FD (its copy times `enc_scale`), b_enc_F and b_dec_D on
    `module`, from its fields d_in, n_latents and d_out. Called from `setup`.

    The encoder starts as the decoder's transpose; a transcoder whose widths differ starts with its
    own rows. Both are stored by latents, so that every gather and scatter is of rows. rows: draws them."""
    n, d_in, d_out = module.n_latents, module.d_in, module.d_out or module.d_in
    if n < 1:
        raise ValueError(f"n_latents={n} must be at least 1.")
    module.W_dec_FD = module.param("W_dec_FD", rows, (n, d_out))
    tied = lambda key: enc_scale * (module.W_dec_FD if d_in == d_out else rows(key, (n, d_in)))
    module.W_enc_FD = module.param("W_enc_FD", tied)
    module.b_enc_F = module.param("b_enc_F", nn.initializers.zeros, (n,))
    module.b_dec_D = module.param("b_dec_D", nn.initializers.zeros, (d_out,))


def centre(module, x_BD):
    """The encoder's input: `x - b_dec` in an autoencoder, unless it has `subtract_b_dec` and says no;
    `x` in a transcoder."""
    return x_BD - module.b_dec_D if _subtracts(module) else x_BD


def encoder(module, x_BD):
    """`(x_BD, W_enc_FD, b_enc_F)`, of which pre-activations are `x W_enc^T + b_enc`: the input as `centre`
    has it, and the gradient that b_dec has through it, a sum over tokens, by way of b_enc."""
    W_enc_FD, b_enc_F = module.W_enc_FD, module.b_enc_F
    if not _subtracts(module):
        return x_BD, W_enc_FD, b_enc_F
    b_enc_F = coding.shifted(b_enc_F, W_enc_FD, module.b_dec_D)
    return x_BD - lax.stop_gradient(module.b_dec_D), W_enc_FD, b_enc_F


def pre(module, x_BD):
    """Pre-activations `[B, F]` of raw input, with gradient; ops/encode.py has those without."""
    return product(*encoder(module, x_BD))


def product(x_BD, W_enc_FD, b_enc_F):
    """Those of what `encoder` gives."""
    return x_BD @ W_enc_FD.T + b_enc_F


def _subtracts(module) -> bool:
    return module.d_out is None and module.subtract_b_dec


def crowd(module) -> int:
    """Active latents of one token up to which it is computed sparsely: 96 or, in wide dictionaries, one
    in 128; all latents where these are so few that dense codes are cheap."""
    n = module.n_latents
    most = max(96, n // 128)
    return most if 8 * most <= n else n


def from_atoms(codes: Codes, atoms_FD, used=None):
    """`codes atoms`, from sparse or dense codes. used: entries of sparse codes that any token uses, the
    rest being zero; None for all."""
    if codes.idx_BK is None:
        return jnp.asarray(codes.val) @ atoms_FD
    return coding.decode(codes.val, codes.idx_BK, atoms_FD, used)


def decode(module, codes: Codes, used=None):
    """`codes W_dec + b_dec`; used: see `from_atoms`."""
    return from_atoms(codes, module.W_dec_FD, used) + module.b_dec_D


def residual(module, read, pre_BF, codes: Codes, dead_F, atoms_FD=None):
    """AuxK's `ehat` by `aux_k` dead latents, None where that is 0. read: what `encoder` gave. atoms_FD:
    W_dec_FD unless given."""
    return beside(module, read, pre_BF, codes, dead_F, atoms_FD)[0]


def beside(module, read, pre_BF, codes: Codes, dead_F, atoms_FD=None):
    """`(ehat, read, atoms_FD)`: that of `residual`, and with what to compute the rest of the step, so that
    both gradients are summed in one place."""
    atoms_FD = module.W_dec_FD if atoms_FD is None else atoms_FD
    if not module.aux_k:
        return None, read, atoms_FD
    x_BD, W_enc_FD, b_enc_F = read
    ehat_BD, (W_enc_FD, b_enc_F, atoms_FD) = auxk.reconstruct_residual(
        x_BD, pre_BF, codes, dead_F, W_enc_FD, b_enc_F, atoms_FD, module.aux_k
    )
    return ehat_BD, (x_BD, W_enc_FD, b_enc_F), atoms_FD


def few_or_many(module, read, pre_BF, f_BF, most: int, dead_F) -> Out:
    """What a training forward returns of the codes f_BF, zero or `pre_BF`, with AuxK: a token with no more
    than `most` active latents is computed sparsely (ops/sparse/support.py). read: what `encoder` gave."""
    codes = Codes(f_BF)
    residual_BD, read, atoms_FD = beside(module, read, pre_BF, codes, dead_F)
    body = lambda entries, W_FD: entries.decode(jnp.where(entries.on, entries.z, 0), W_FD)
    y_BD = support.over(body, f_BF, pre_BF, most, *read, atoms_FD) + module.b_dec_D
    return Out(y_BD, codes, pre_BF, residual_BD=residual_BD)
