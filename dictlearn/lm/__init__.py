"""Language models as pure functions with named taps; their weights, tokenizers and text."""

from dictlearn.lm.llama import check_taps, tap_names
from dictlearn.lm.load import LM, load
from dictlearn.lm.text import documents, pack, wiki_leads

__all__ = ["LM", "check_taps", "documents", "load", "pack", "tap_names", "wiki_leads"]
