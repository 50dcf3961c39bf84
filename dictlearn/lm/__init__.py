"""Language models as pure functions with named taps, and their weights, tokenizers and text."""

from dictlearn.lm import bert, edits, gradients, splice
from dictlearn.lm.generate import Edits, Generated, Prompts, generate, prompts
from dictlearn.lm.load import identity, load, read_spec
from dictlearn.lm.model import LM
from dictlearn.lm.save import save
from dictlearn.lm.taps import check_taps, expand_taps, match_taps, tap_names
from dictlearn.lm.text import documents, pack, sequences
from dictlearn.lm.text_wiki import wiki_leads

__all__ = [
    "LM",
    "Edits",
    "Generated",
    "Prompts",
    "bert",
    "check_taps",
    "documents",
    "edits",
    "expand_taps",
    "generate",
    "gradients",
    "identity",
    "load",
    "match_taps",
    "pack",
    "prompts",
    "read_spec",
    "save",
    "sequences",
    "splice",
    "tap_names",
    "wiki_leads",
]
