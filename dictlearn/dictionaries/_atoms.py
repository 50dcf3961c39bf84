"""What variants share that find codes by a search in their own atoms, or whose atoms are computed."""

from flax import linen as nn

from dictlearn.ops.initialise import unit_rows


def declare(module) -> None:
    """Declare W_dec_FD (unit rows) and b_dec_D on `module`. Called from `setup`.
    Raises ValueError for a transcoder and for no latents."""
    refuse_transcoder(module)
    if module.n_latents < 1:
        raise ValueError(f"n_latents={module.n_latents} must be at least 1.")
    shape = (module.n_latents, module.d_in)
    module.W_dec_FD = module.param("W_dec_FD", unit_rows, shape)
    module.b_dec_D = module.param("b_dec_D", nn.initializers.zeros, (module.d_in,))


def refuse_transcoder(module) -> None:
    """Raises ValueError if `module` is given a target's width."""
    if module.d_out is not None:
        raise ValueError(
            f"d_out={module.d_out}: {type(module).__name__} reads with the atoms that it writes with, so its "
            "target is its input; leave d_out None, or take topk for a transcoder."
        )
