"""Where the dictionaries of a graph read and write: layers of a decoder, at most one dictionary for each."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from dictlearn.lm.model import LM
from dictlearn.lm.spec import Spec
from dictlearn.runs.trained import Trained

READS = ("attn_in", "resid_mid", "mlp_in")
WRITES = "mlp_out"
_TAP = re.compile(r"(\w+)\.(\d+)")


class Place(NamedTuple):
    """A dictionary and its layers, in the order of its taps: it reads and writes each of them."""

    dictionary: Trained
    layers: tuple[int, ...]


def places(lm: LM, dictionaries: Sequence[Trained]) -> tuple[str, list[Place]]:
    """The tap that all dictionaries read, without its layer, and the layers of each.

    Raises ValueError for a model that is no decoder, for no dictionaries, for one that is no transcoder of
    MLPs, for different taps, and for two dictionaries of one layer.
    """
    if not isinstance(lm.spec, Spec):
        raise ValueError(
            f"{lm.name} is no decoder and predicts no next token; load a causal model."
        )
    if not dictionaries:
        raise ValueError("No dictionaries; give transcoders of MLPs, or a cross-layer transcoder.")
    found = [_place(lm.spec, one) for one in dictionaries]
    reads = sorted({read for read, _ in found})
    if len(reads) > 1:
        raise ValueError(f"The dictionaries read {' and '.join(reads)}; a graph needs one of them.")
    layers = [layer for _, place in found for layer in place.layers]
    if twice := sorted({layer for layer in layers if layers.count(layer) > 1}):
        raise ValueError(f"Several dictionaries write {WRITES}.{twice[0]}; give one for a layer.")
    return reads[0], [place for _, place in found]


def _place(spec: Spec, one: Trained) -> tuple[str, Place]:
    sites = [(site.tap, site.target) for site in one.sites]
    sides = [[_TAP.fullmatch(tap) for tap in side] for site in sites for side in site]
    names = [{tap[1] if tap else "" for tap in side} for side in sides]
    if len(sides) != 2 or len(names[0]) != 1 or names[1] != {WRITES} or not names[0] <= {*READS}:
        raise ValueError(
            f"{one.name!r} reads and writes {sites}; a graph needs transcoders that read {', '.join(READS)} of "
            f"a layer and write its {WRITES}, as their sites say."
        )
    read, written = ([int(tap[2]) for tap in side if tap] for side in sides)
    if read != written or max(read) >= spec.n_layers:
        raise ValueError(
            f"{one.name!r} reads layers {read} and writes {written} of {spec.n_layers}; both must be the same."
        )
    return names[0].pop(), Place(one, tuple(read))
