"""The linear part of a skip transcoder, beside its codes: `yhat = decode(f(x)) + x W_skip^T`.

Source: Paulo, Shabalin & Belrose 2025 (arXiv:2501.18823), section 3: any transcoder, with an affine map of the
input whose constant is b_dec. W_skip starts at zero.
"""

from collections.abc import Mapping
from typing import Any

from jaxtyping import Array, Float

NAME = "W_skip_DD"
"""The parameter, [width of the target, width of the input]."""


def add(
    params: Mapping[str, Any], x_BD: Float[Array, "B X"], y_BD: Float[Array, "B Y"]
) -> Float[Array, "B Y"]:
    """`y + x W_skip^T` where the parameters hold a W_skip, else y."""
    return y_BD + x_BD @ params[NAME].T if NAME in params else y_BD
