"""What the log of a finished run says of its dictionaries, with the way out.

A run can end without an error and still be a poor one. Three signs are in the log of every run: latents that
no longer fire, another L0 than the one that was asked for, and a loss that was still falling. The bounds are
MOST_DEAD, OFF and FALLING.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax

from dictlearn.experiment import Member
from dictlearn.runs.workdir import logged

MOST_DEAD = 0.1
"""The largest share of dead latents that is not mentioned."""
OFF = 0.1
"""The largest relative distance of L0 to its target that is not mentioned."""
FALLING = 0.15
"""The largest share of the reconstruction loss that the second half of a run may remove without a mention."""


def warn(path: Path, members: Sequence[Member], steps: int) -> None:
    """Logs the remarks on the run whose log is at `path` as warnings, once for all processes."""
    if jax.process_index() == 0:
        for remark in remarks(logged(path), members, steps):
            logging.getLogger(__name__).warning(remark)


def remarks(lines: Sequence[Mapping], members: Sequence[Member], steps: int) -> list[str]:
    """A sentence for each sign.

    Args:
        lines: the lines of `metrics.jsonl`.
        members: the dictionaries of the run.
        steps: the number of steps of the run.

    Returns:
        The sentences, each with its figure, the dictionary that is worst, and what to change.
    """
    last = {name: info for line in lines for name, info in line.items()}
    known = [member for member in members if isinstance(last.get(member.name), Mapping)]
    found = {member.name: last[member.name] for member in known}
    dead = {name: info.get("dead_fraction") for name, info in found.items()}
    off = {m.name: _off(m, found[m.name].get("l0")) for m in known}
    fell = {name: _fell(lines, name) for name in found}
    return [
        *_told(
            dead,
            MOST_DEAD,
            "{worst}: {share:.0%} of its latents are dead{more}. Lower rule.lr, take fewer latents, or set "
            "--config.revive.name=reanimate.",
        ),
        *_told(
            off,
            OFF,
            "{worst}: L0 is {share:.0%} from its target{more}. Train longer, or change the coefficient of "
            "the penalty.",
        ),
        *_told(
            fell,
            FALLING,
            "{worst}: the loss fell by {share:.0%} in the second half of the run{more}. Train longer: "
            f"--config.steps={2 * steps}.",
        ),
    ]


def _told(shares: Mapping[str, float | None], bound: float, sentence: str) -> list[str]:
    """The sentence for the worst dictionary, if it is beyond the bound, with the number of the others."""
    beyond = {name: share for name, share in shares.items() if share is not None and share > bound}
    if not beyond:
        return []
    worst = max(beyond, key=lambda name: beyond[name])
    others = len(beyond) - 1
    more = f", and {others} more of {len(shares)} are over {bound:.0%}" if others else ""
    return [sentence.format(worst=worst, share=beyond[worst], more=more)]


def _off(member: Member, l0: float | None) -> float | None:
    """The relative distance of L0 to what the dictionary was asked for; None where nothing was."""
    asked = member.hparams["dictionary"]
    wanted = asked.get("target_l0") if asked.get("penalty") == "target_l0" else None
    target = wanted or asked.get("k") or member.hparams["learner"].get("penalty_l0")
    return abs(l0 / target - 1) if target and l0 is not None else None


def _fell(lines: Sequence[Mapping], name: str) -> float | None:
    """The share of the reconstruction loss at half of the run that is gone at its end, each a mean over a
    twentieth of the run; None for a run with too few lines."""
    loss = [line[name].get("reconstruction") for line in lines if name in line]
    width = len(loss) // 20
    if width < 1 or None in loss:
        return None
    middle = len(loss) // 2
    before = sum(loss[middle - width : middle]) / width
    after = sum(loss[-width:]) / width
    return 1 - after / before if before > 0 else None
