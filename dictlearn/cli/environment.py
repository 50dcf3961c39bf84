"""Checks of the environment: settings in which nothing would work are an error; others are repaired."""

import contextlib
import io
import os
import sys
from collections.abc import Iterator, Sequence

import jax


def prepare() -> None:
    """Makes text of any alphabet printable. Raises ValueError for settings of JAX that are not supported."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(io.UnsupportedOperation):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
    refuse()


@contextlib.contextmanager
def without_echoes() -> Iterator[None]:
    """While the block runs, callbacks that arrive after the end of a failed save print nothing."""
    before = sys.unraisablehook
    is_echo = lambda error: isinstance(error, RuntimeError) and "loop is closed" in str(error)
    sys.unraisablehook = lambda told: None if is_echo(told.exc_value) else before(told)
    try:
        yield
    finally:
        sys.unraisablehook = before


def refuse() -> None:
    """Raises ValueError if JAX computes in float64, or refuses to promote types."""
    if jax.config.values["jax_enable_x64"]:
        raise ValueError(
            "JAX_ENABLE_X64 is set, and dictionaries are trained in float32: unset it, or set it to 0."
        )
    if jax.config.values["jax_numpy_dtype_promotion"] == "strict":
        raise ValueError(
            "JAX_NUMPY_DTYPE_PROMOTION=strict refuses sums of float32 and bfloat16: unset it."
        )


def words(argv: Sequence[str]) -> None:
    """Raises ValueError for a word that is not text in the encoding of this environment."""
    for word in argv:
        if any("\ud800" <= letter <= "\udfff" for letter in word):
            raise ValueError(
                f"{word!r} is not text in {sys.getfilesystemencoding()}, this environment's encoding of paths: "
                "set PYTHONUTF8=1, or give another name."
            )


def lacking() -> str:
    """The message for devices that the environment asks for and JAX does not find; "" if it finds them."""
    asked = os.environ.get("JAX_PLATFORMS", "cpu")
    if asked == "cpu":
        return ""
    try:
        jax.devices()
    except Exception as error:
        return (
            f"JAX_PLATFORMS={asked} names devices that JAX cannot find ({error}):"
            " unset it, or set it to cpu."
        )
    return ""
