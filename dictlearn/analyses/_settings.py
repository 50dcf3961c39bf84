"""Groups a run's dictionaries by setting: dictionaries that differ only in the seed have one setting."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from dictlearn.analyses._subject import Subject
from dictlearn.runs.workdir import flat


class Setting(NamedTuple):
    """A member of the config, and (hyperparameter, value) of all that its sweep varies except the seed."""

    label: str
    values: tuple[tuple[str, Any], ...]

    @property
    def words(self) -> str:
        """The values as text: "k 8, lr 0.001"."""
        return ", ".join(
            f"{name.rpartition('.')[2]} {_short(value)}" for name, value in self.values
        )


def by_setting(subject: Subject) -> dict[Setting, list[str]]:
    """The names of the dictionaries of each setting, in the order of the sweep."""
    labels: dict[str, dict[str, Mapping[str, Any]]] = {}
    for name, record in subject.metrics.items():
        labels.setdefault(record["label"], {})[name] = dict(flat(record["hparams"]))
    found: dict[Setting, list[str]] = {}
    for label, members in labels.items():
        first, *others = members.values()
        varied = [
            k for k in first if k != "seed" and any(each.get(k) != first[k] for each in others)
        ]
        for name, hparams in members.items():
            setting = Setting(label, tuple((key, hparams.get(key)) for key in varied))
            found.setdefault(setting, []).append(name)
    return found


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
