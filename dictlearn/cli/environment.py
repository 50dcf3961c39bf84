"""What the environment may be: refused in a line where nothing would work in it, made to work where it can."""

import contextlib
import io
import os
import sys

import jax


def prepare() -> None:
    """Lets text of any alphabet be printed. Raises ValueError where JAX is set to what this is not made for."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(io.UnsupportedOperation):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
    refuse()


def refuse() -> None:
    """Raises ValueError where JAX computes in doubles, or takes no mixed types."""
    if jax.config.values["jax_enable_x64"]:
        raise ValueError(
            "JAX_ENABLE_X64 is set, and dictionaries are trained in float32: unset it, or set it to 0."
        )
    if jax.config.values["jax_numpy_dtype_promotion"] == "strict":
        raise ValueError(
            "JAX_NUMPY_DTYPE_PROMOTION=strict refuses sums of float32 and bfloat16: unset it."
        )


def devices_of(error: Exception) -> str:
    """What to say beside an error of JAX about devices that are not there."""
    asked = os.environ.get("JAX_PLATFORMS")
    if not asked or not isinstance(error, RuntimeError) or "backend" not in str(error):
        return ""
    return f" JAX_PLATFORMS={asked} names devices that must be there: unset it, or set it to cpu."
