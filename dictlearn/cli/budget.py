"""`config.budget` is kept: a run whose plan is over it does not start."""

from collections.abc import Mapping, Sequence


def keep(configs: Sequence[Mapping]) -> None:
    """Raises ValueError for configs whose plans are over their budget, with the figures."""
    for config in configs:
        if budget := config.get("budget"):
            from dictlearn.plan import plan, topology

            chip = topology.measured() if "hours" in budget else None
            if beyond := plan(config, chip=chip)["over_budget"]:
                raise ValueError(f"{' '.join(beyond)} `dictlearn plan` has the price of each cell.")
