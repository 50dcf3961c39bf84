"""Advice for a config whose plan does not fit or barely fits: the setting to change, and the reason."""

import inspect
from collections.abc import Mapping
from typing import Any

from dictlearn import rules

TIGHT = 0.9
"""The share of a device's memory above which there is a warning: fragments and the runtime need the rest."""
HEAVY = 0.4
"""The share of the memory above which the advice is to split the state."""


def advise(config: Mapping, plan: Mapping[str, Any]) -> list[str]:
    """Advice for a plan that needs more than TIGHT of the memory.

    Args:
        config: the config of the experiment.
        plan: its plan.

    Returns:
        A line for each program, for the model, and for all together, that needs too much.
    """
    chip = plan["chip"]
    if chip is None:
        return []
    found = []
    for row in plan["programs"]:
        if reason := _crowded(row, chip["hbm"]):
            ways = " or ".join(_knobs(config, row, plan))
            found.append(f"{row['name']} {reason}; set {ways}.")
    model = plan["language_model"]
    if model and (reason := _crowded(model, chip["hbm"])):
        found.append(
            f"{model['name']} {reason}; set harvest.lm_batch lower, or model.dtype=bfloat16."
        )
    together = plan["together"]
    if not found and together.get("share_of_hbm", 0) > TIGHT:
        held = f"{together['share_of_hbm']:.0%} of the memory"
        found.append(f"All programs together hold {held}; train fewer at a time.")
    return found


def _crowded(row: Mapping[str, Any], hbm: int) -> str:
    if "problem" in row:
        return f"does not fit: {row['problem'].rstrip('.')}"
    share = row["total"] / hbm
    return f"holds {share:.0%} of the memory" if share > TIGHT else ""


def _knobs(config: Mapping, row: Mapping[str, Any], plan: Mapping[str, Any]) -> list[str]:
    """The settings that help this program, the most useful first."""
    learner = config.get("learner", {})
    twice = lambda place, key, now: f"{place}.{key}={2 * now}"
    model, data = plan["mesh"]["model"], plan["mesh"]["data"]
    split = (
        f"{twice('mesh', 'model', model)} (halves the parameters and moments that a device holds)"
    )
    parts = f"{twice('learner', 'accumulate', learner.get('accumulate', 1))} (halves the tokens at one time)"
    found = [parts]
    if learner.get("compute_dtype", "float32") == "float32":
        found.append("learner.compute_dtype=bfloat16 (halves what is computed)")
    found.append(f"batch_size={config['batch_size'] // 2}")
    heavy, rule = row["state"] > HEAVY * plan["chip"]["hbm"], config.get("rule", {})
    known = inspect.signature(rules.factory(rule["name"])).parameters if rule else {}
    if heavy and "per_latent" in known and not rule.get("per_latent"):
        found.insert(0, "rule.per_latent=True (a third less parameters and moments)")
    if data * model > model:
        found.insert(0 if heavy else len(found), split)
    elif heavy:
        found.insert(0, f"a larger slice with {split}")
    return found
