"""The first letter of words: the tokens of a vocabulary that are words, made of the model's own tokenizer.

SAEBench's absorption task. A word is a token that is letters of English alone after a leading space.

Source: Chanin et al. 2024 (arXiv:2409.14507).
"""

import numpy as np
from tokenizers import Tokenizer

from dictlearn.tasks._task import Task


def first_letters(tokenizer: Tokenizer | None, *, shortest: int = 1) -> Task:
    """The words of a vocabulary with their first letters, in upper case.

    Args:
        tokenizer: the tokenizer.
        shortest: the least number of letters of a word.

    Returns:
        The Task, without a split. A document is a word with its leading space.

    Raises:
        ValueError: without a tokenizer, and for one without such words.
    """
    if tokenizer is None:
        raise ValueError("first_letters is made of a tokenizer; give the one of the model.")
    ids = sorted(tokenizer.get_vocab(with_added_tokens=False).values())
    shown = tokenizer.decode_batch([[id] for id in ids], skip_special_tokens=False)
    is_word = lambda one: one[:1] == " " and one[1:].isascii() and one[1:].isalpha()
    words = list(dict.fromkeys(one for one in shown if is_word(one) and len(one) > shortest))
    if not words:
        raise ValueError("no token of the tokenizer is a word with a space in front.")
    return Task(tuple(words), np.array([word[1].upper() for word in words]))
