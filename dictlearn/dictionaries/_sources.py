"""Shared by dictionaries whose input is several sources, concatenated."""

from dictlearn.ops.initialise import unit_rows


def check(module) -> None:
    """Raises ValueError unless `sources` divides the widths. Call it from `setup`."""
    n = module.sources
    if n < 1:
        raise ValueError(f"sources={n} must be at least 1.")
    for name, width in {"d_in": module.d_in, "d_out": module.d_out}.items():
        if width is not None and width % n:
            raise ValueError(
                f"sources={n} does not divide {name}={width}; give the number of taps that are concatenated."
            )


def same_rows(n: int):
    """An initialiser of unit rows `[F, D]` that are equal in each of the `n` sources."""

    def draw(key, shape):
        rows_FD = unit_rows(key, (shape[0], shape[1] // n))
        return (rows_FD[:, None] / n**0.5).repeat(n, axis=1).reshape(shape)

    return draw
