"""An intervention: one change of latents or of a direction, at chosen tokens, as a value that JSON can hold.

    op               the new value of latent i, which was f_i
    set              v
    scale            v f_i
    add              f_i + v
    clamp_min        max(f_i, v)
    clamp_max        min(f_i, v)
    clamp_if_active  v where f_i is not 0
    swap             its value on the last token of another text
    mask             f_i; every other latent becomes 0

    op               the new activation at the written tap, which was x
    add              x + v d, for a direction d
    project_out      x - U^T U x, where the rows of U are an orthonormal basis of the direction, or of the atoms
                     of the latents

The activation changes by sum_i (f'_i - f_i) w_i, where w_i is the atom of latent i. The error of the dictionary
stays, unless `error` is false: the reconstruction then takes the place of the activation. Latents are in units
of the dictionary's own codes (the codes of normalised activations), directions in units of the raw activation.

Source: clamping of Templeton et al. 2024, "Scaling monosemanticity"; additive steering of Turner et al. 2023
(arXiv:2308.10248).
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

VALUED = ("set", "scale", "add", "clamp_min", "clamp_max", "clamp_if_active")
OPS = (*VALUED, "project_out", "mask", "swap")
POSITIONS = ("all", "prompt", "generated", "last")


@dataclass(frozen=True)
class Intervention:
    """One change.

    Args:
        op: one of OPS.
        latents: the latents that it changes; for "mask" those that it keeps.
        value: the number v, one for all latents or one for each; None for the strength that is given later.
        direction: a vector of the width of the written tap, instead of latents, for "add" and "project_out".
        positions: "all" tokens, the tokens of the "prompt", the "generated" ones, the "last" token of the
            prompt, or places in the prompt, negative from its end.
        after: only tokens after the first one with this id; None for no such condition.
        source: the text of "swap".
        first: whether the first token of the prompt may change too.
        error: whether the error of the dictionary stays.

    Raises:
        ValueError: for an unknown op or positions, for latents and a direction that the op does not take, and
            for values that are not finite or not as many as the latents.

    Example:
        >>> push = Intervention("add", latents=(7,), value=4.0)
        >>> Intervention.of(push.told()) == push
        True
    """

    op: str
    latents: tuple[int, ...] = ()
    value: float | tuple[float, ...] | None = None
    direction: tuple[float, ...] = ()
    positions: str | tuple[int, ...] = "all"
    after: int | None = None
    source: str = ""
    first: bool = False
    error: bool = True

    def __post_init__(self):
        if self.op not in OPS:
            raise ValueError(f"Unknown op {self.op!r}; known: {', '.join(OPS)}.")
        if isinstance(self.positions, str) and self.positions not in POSITIONS:
            raise ValueError(
                f"Unknown positions {self.positions!r}; known: {', '.join(POSITIONS)}, or places."
            )
        self._check_changed()
        self._check_values()

    def _check_changed(self) -> None:
        both = bool(self.latents) + bool(self.direction)
        directed = self.op in ("add", "project_out")
        if both != 1 or (self.direction and not directed):
            raise ValueError(
                f"{self.op!r} has {len(self.latents)} latents and a direction of {len(self.direction)} "
                f"numbers; it takes latents{', or one direction' if directed else ''}."
            )
        if len(set(self.latents)) < len(self.latents) or min(self.latents, default=0) < 0:
            raise ValueError(f"latents={self.latents} must be different, and at least 0.")
        if not all(map(math.isfinite, self.direction)) or (
            self.direction and not any(self.direction)
        ):
            raise ValueError("A direction must be finite, and not zero.")
        if bool(self.source) != (self.op == "swap"):
            raise ValueError(f"{self.op!r} with source={self.source!r}; swap alone takes a source.")

    def _check_values(self) -> None:
        values = self.value if isinstance(self.value, tuple) else (self.value or 0.0,)
        if self.value is not None and self.op not in VALUED:
            raise ValueError(f"{self.op!r} takes no value, but has value={self.value}.")
        if isinstance(self.value, tuple) and len(values) != len(self.latents):
            raise ValueError(
                f"{len(values)} values for {len(self.latents)} latents; give one each."
            )
        if not all(map(math.isfinite, values)):
            raise ValueError(f"value={self.value} must be finite.")

    def told(self) -> dict[str, Any]:
        """The fields that differ from their defaults, as JSON holds them."""
        fields = {field.name: field.default for field in dataclasses.fields(self)}
        plain = dataclasses.asdict(self)
        listed = lambda value: list(value) if isinstance(value, tuple) else value
        return {name: listed(plain[name]) for name in fields if plain[name] != fields[name]}

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> "Intervention":
        """The intervention of the dict of `told`, also after JSON. Raises ValueError for an unknown field."""
        known = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(set(told) - set(known))
        if "op" not in told or unknown:
            raise ValueError(f"An intervention has op and some of {known}; unknown: {unknown}.")
        fields: Any = {
            name: tuple(one) if isinstance(one, list) else one for name, one in told.items()
        }
        return cls(**fields)


def several(given: Intervention | Sequence[Intervention]) -> tuple[Intervention, ...]:
    """The interventions as a tuple.

    Args:
        given: one, or several in the order in which they apply.

    Returns:
        At least one intervention.

    Raises:
        ValueError: for none.

    Example:
        >>> len(several(Intervention("set", (3,), 0.0)))
        1
    """
    found = (given,) if isinstance(given, Intervention) else tuple(given)
    if not found:
        raise ValueError("No interventions; give at least one.")
    return found
