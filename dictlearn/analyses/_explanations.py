"""The explanations of a dictionary in a workdir: explanations/NAME.jsonl, a line for each latent.

    {"latent": 17, "text": "days of the week", "score": 0.8, "by": "...", "scores": {"detection": 0.8, ...}}

Only `latent` and `text` are needed, so that explanations from elsewhere can be scored and shown. `sampling` and
`events` say how and from what its windows were drawn.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dictlearn.analyses._events import safe
from dictlearn.analyses._result import plain
from dictlearn.runs.workdir import replace

Explanations = dict[int, dict[str, Any]]


def file(workdir: Path, name: str) -> Path:
    """The file of a dictionary of that name."""
    return workdir / "explanations" / f"{safe(name)}.jsonl"


def read(path: Path) -> Explanations:
    """{latent: its line}, of several the last. Empty without the file; ValueError for any other line, naming
    it.
    """
    found = {}
    lines = path.read_text("utf-8").splitlines() if path.is_file() else []
    for number, line in enumerate(lines, 1):
        try:
            one = json.loads(line)
            score = one.get("score")
            one |= {"text": str(one["text"]), "score": None if score is None else float(score)}
            one |= {key: dict(one[key]) for key in ("sampling", "events") if key in one}
            found[int(one["latent"])] = one
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path}, line {number}: {error}; a line is {{latent, text, score}}."
            ) from error
    return found


def update(path: Path, new: Mapping[int, Mapping[str, Any]]) -> None:
    """Writes these lines beside those of other latents. A text that stays the same, from the same events, keeps
    its scores.
    """
    found = read(path)
    for latent, one in new.items():
        old = found.get(latent, {})
        same = all(old.get(key) == one[key] for key in ("text", "events") if key in one)
        kept = old if same else {}
        found[latent] = {"latent": latent, "score": None, **kept, **one}
    lines = (json.dumps(plain(found[i]), ensure_ascii=False) + "\n" for i in sorted(found))
    path.parent.mkdir(parents=True, exist_ok=True)
    replace(path, "".join(lines))
