"""Shared by dictionaries that find codes by a search in their own atoms, or that compute their atoms."""

from flax import linen as nn

from dictlearn.ops.initialise import unit_rows


def declare(module) -> None:
    """Declares W_dec_FD (unit rows) and b_dec_D on `module`. Call it from `setup`. Raises ValueError for a
    transcoder and for no latents."""
    refuse_transcoder(module)
    if module.n_latents < 1:
        raise ValueError(f"n_latents={module.n_latents} must be at least 1.")
    shape = (module.n_latents, module.d_in)
    module.W_dec_FD = module.param("W_dec_FD", unit_rows, shape)
    module.b_dec_D = module.param("b_dec_D", nn.initializers.zeros, (module.d_in,))


def refuse_transcoder(module) -> None:
    """Raises ValueError if `module` has a target of another width."""
    if module.d_out is not None:
        raise ValueError(
            f"d_out={module.d_out}: {type(module).__name__} encodes with its decoder's atoms, so its target "
            "is its input; leave d_out None, or use topk for a transcoder."
        )
