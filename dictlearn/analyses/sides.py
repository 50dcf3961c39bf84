"""The metrics of dictionaries at each tap or model that they read, for several runs.

`metrics.json` has the values of each side of a stream under `sides` (`evaluate`). So a dictionary of one layer
and a dictionary of a group of layers are compared layer by layer.
"""

from collections.abc import Mapping, Sequence

from dictlearn.analyses._result import Result, Table
from dictlearn.analyses._subject import Subject

WHOLE = "all"
"""The label of a dictionary's only side."""


def sides(
    subjects: Sequence[Subject],
    *,
    metrics: Sequence[str] = ("explained_variance", "ce_score", "l0", "dead_fraction"),
) -> Result:
    """The metrics of every dictionary of the subjects, for each side.

    Args:
        subjects: evaluated runs.
        metrics: names in `metrics.json`; a metric that was not measured is None.

    Returns:
        A Result with `rows`, one for each dictionary and side.
    """
    rows = [
        {"side": side, "run": subject.name, "dictionary": name}
        | {key: found.get(key) for key in metrics}
        for subject in subjects
        for name, record in subject.metrics.items()
        for side, found in _sides(record).items()
    ]
    first = {side: n for n, side in enumerate(dict.fromkeys(row["side"] for row in rows))}
    rows.sort(key=lambda row: first[row["side"]])
    columns = [key.replace("_", " ") for key in rows[0]]
    return Result({"rows": rows}, [Table("By side", columns, [[*row.values()] for row in rows])])


def _sides(record: Mapping) -> Mapping[str, Mapping]:
    return record.get("sides") or {WHOLE: record}
