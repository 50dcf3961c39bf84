"""A suite: evaluations with their settings and data, and the metrics that a table of dictionaries shows."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Metric(NamedTuple):
    """A number of an evaluation. key: its key in the record. title: as a heading. better: 1 if larger is
    better, -1 if smaller is."""

    key: str
    title: str
    better: int = 1

    @property
    def of_row(self) -> str:
        """Its key in the rows of baselines, which have no kind in front."""
        return self.key.removeprefix("sae_")


class Evaluation(NamedTuple):
    """An analysis with settings, except `seed`, `model` and `tap`. data: what it reads, in words."""

    analysis: str
    settings: Mapping[str, Any]
    data: str
    metrics: tuple[Metric, ...]


class Suite(NamedTuple):
    """Evaluations. told: a sentence about them."""

    told: str
    evaluations: tuple[Evaluation, ...]


CORE = (Metric("explained_variance", "EV"), Metric("ce_loss_score", "CE score"))
PROBING = (
    Metric("sae_top_1_test_accuracy", "probes of 1"),
    Metric("sae_top_5_test_accuracy", "probes of 5"),
)
SCR = (Metric("scr_metric_threshold_20", "SCR 20"),)
TPP = (Metric("tpp_threshold_20_total_metric", "TPP 20"),)
ABSORPTION = (
    Metric("mean_absorption_fraction_score", "absorption", -1),
    Metric("mean_full_absorption_score", "full absorption", -1),
)
RAVEL = (Metric("disentanglement_score", "RAVEL"),)
UNLEARNING = (Metric("unlearning_score", "unlearning"),)
"""The metrics of SAEBench's evaluations that are compared."""
