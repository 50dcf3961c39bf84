"""Prompts about entities that a model completes rightly, and pairs of them (`ravel`).

A completion is right if it begins with the value, or is a beginning of it: in lower case, up to the first
quotation mark, without "the".

Axes: S a prompt, P its tokens, N a pair; the others as in `dictlearn.types`.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dictlearn import lm as language
from dictlearn.analyses._interchange import BATCH, Pairs, completions
from dictlearn.lm import LM
from dictlearn.runs import on_texts
from dictlearn.tasks import Task

_TRAIN = 0.7


class Prompts(NamedTuple):
    """Prompts as tokens, with room for a completion. attribute_S: what they ask for. value_S: what is right.
    length_S, at_S: their lengths, and the last token of the entity. x_SD: the activation there. next_S: the
    first token of the model's own completion."""

    attribute_S: np.ndarray
    entity_S: np.ndarray
    value_S: np.ndarray
    tokens_SP: np.ndarray
    length_S: np.ndarray
    at_S: np.ndarray
    x_SD: np.ndarray
    next_S: np.ndarray

    def where(self, kept_S: np.ndarray) -> "Prompts":
        """Some of the prompts."""
        return Prompts(*(a[kept_S] for a in self))

    @property
    def counts(self) -> dict[str, int]:
        """The number of prompts that ask for each attribute."""
        return dict(sorted(Counter(self.attribute_S.tolist()).items()))


class Couples(NamedTuple):
    """Pairs of prompts that ask for one attribute, of which two entities have other values. cause_N: whether it
    is the attribute that is moved; then the source's value should follow, else the base's."""

    base_N: np.ndarray
    source_N: np.ndarray
    cause_N: np.ndarray

    @property
    def wanted_N(self) -> np.ndarray:
        """The prompt whose completion should follow."""
        return np.where(self.cause_N, self.source_N, self.base_N)

    def pairs(self, prompts: Prompts) -> Pairs:
        """What they read."""
        base = prompts.where(self.base_N)
        other = prompts.where(self.source_N)
        target_N = prompts.next_S[self.wanted_N]
        return Pairs(base.tokens_SP, base.length_S, base.at_S, base.x_SD, other.x_SD, target_N)

    def where(self, kept_N: np.ndarray) -> "Couples":
        """Some of the pairs."""
        return Couples(*(a[kept_N] for a in self))


def right(value: str, completion: str) -> bool:
    """Whether a completion says a value.

    Args:
        value: the value.
        completion: the text that follows a prompt.

    Returns:
        True if either begins with the other.

    Example:
        >>> right("United States", ' the United States", "language"'), right("Peru", " Pe"), right("Peru", " ")
        (True, True, False)
    """
    plain = lambda text: text.split('"')[0].strip().lower().removeprefix("the ").strip()
    own, said = plain(value), plain(completion)
    return bool(said) and (said.startswith(own) or own.startswith(said))


def known(
    lm: LM, tap: str, task: Task, n_prompts: int, n_entities: int, n_tokens: int, seed: int
) -> Prompts:
    """The prompts of a task that a model completes rightly.

    Args:
        lm: the model.
        tap: the tap at which entities are read.
        task: the prompts (tasks/_entities.py).
        n_prompts: the largest number of prompts that are tried, drawn by `seed`; 0 for all.
        n_entities: the entities that are kept: the ones with the most right prompts.
        n_tokens: the number of tokens of a completion.

    Returns:
        The Prompts.

    Raises:
        ValueError: for a task without "entity" or "value", and for a prompt without its entity.
    """
    if missing := [name for name in ("entity", "value") if name not in task.attributes]:
        raise ValueError(
            f"the task has no attribute {missing[0]!r}; a prompt about an entity has the attributes entity and "
            "value (`attributes=('entity', 'value')` of a file of your own)."
        )
    chosen_S = np.random.default_rng(seed).permutation(len(task.text))[: n_prompts or None]
    found = _read(lm, tap, task, chosen_S, n_tokens)
    own = found.tokens_SP, found.length_S, found.at_S, found.x_SD
    said_SN = completions(lm, tap, n_tokens, *own)
    right_S = rights(lm, found.value_S, said_SN)
    found = found._replace(next_S=said_SN[:, 0])
    of = Counter(found.entity_S[right_S].tolist())
    kept = sorted(of, key=lambda one: (-of[one], one))[:n_entities]
    return found.where(right_S & np.isin(found.entity_S, kept))


def rights(lm: LM, value_S: np.ndarray, said_SN: np.ndarray) -> np.ndarray:
    """Whether each completion, as tokens, says its value."""
    texts = lm.tokenizer.decode_batch(said_SN.tolist())
    found = [right(value, text) for value, text in zip(value_S.tolist(), texts, strict=True)]
    return np.array(found, bool)


def _read(lm: LM, tap: str, task: Task, chosen_S: np.ndarray, n_tokens: int) -> Prompts:
    """Prompts as tokens, and their activations where the entity ends."""
    texts = [task.text[s] for s in chosen_S]
    entity_S, value_S = (task.attributes[name][chosen_S] for name in ("entity", "value"))
    encoded = lm.tokenizer.encode_batch(texts, add_special_tokens=False)
    given = language.prompts(lm, [[lm.separator, *one.ids] for one in encoded])
    ends = zip(texts, entity_S.tolist(), (one.offsets for one in encoded), strict=True)
    at_S = np.array([1 + last(*one) for one in ends])
    x_SD = []
    for start in range(0, len(texts), BATCH):
        own = np.resize(np.arange(len(texts))[start : start + BATCH], BATCH)
        x_BTD = np.asarray(on_texts.activations(lm, [tap], given.tokens_BP[own]))
        x_SD.append(x_BTD[np.arange(BATCH), at_S[own]])
    tokens_SP = np.pad(given.tokens_BP, ((0, 0), (0, n_tokens)), "edge")
    read_SD = np.concatenate(x_SD)[: len(texts)]
    none_S = np.zeros(len(texts), np.int32)
    asked_S = task.label_S[chosen_S]
    return Prompts(asked_S, entity_S, value_S, tokens_SP, given.length_B, at_S, read_SD, none_S)


def last(text: str, entity: str, offsets: Sequence[tuple[int, int]]) -> int:
    """The token of a prompt that holds the end of the entity. Raises ValueError for a prompt without it."""
    if not entity or entity not in text:
        raise ValueError(f"the prompt {text!r} does not have its entity {entity!r}.")
    end = text.rindex(entity) + len(entity)
    return max(i for i, (start, _) in enumerate(offsets) if start < end)


def couples(prompts: Prompts, attribute: str, n: int, seed: int) -> tuple[Couples, Couples] | None:
    """Pairs of prompts in which an attribute is moved, and as many in which another should stay.

    Args:
        prompts: prompts that the model completes rightly.
        attribute: the attribute that is moved.
        n: the largest number of pairs of either kind.
        seed: the seed of the pairs.

    Returns:
        (pairs to learn from, pairs to test on), of which both kinds are in each; None where there are too few.
    """
    random = np.random.default_rng(seed)
    moved = _apart(prompts, attribute, n, random)
    others = sorted({*prompts.attribute_S.tolist()} - {attribute})
    stay = np.concatenate([_apart(prompts, one, n, random) for one in others] or [moved[:0]])
    stay = random.permutation(stay)
    each = min(len(moved), len(stay))
    n_train = int(_TRAIN * each)
    if not 0 < n_train < each:
        return None
    both_N2 = np.concatenate([moved[:each], stay[:each]])
    found = Couples(both_N2[:, 0], both_N2[:, 1], np.arange(2 * each) < each)
    is_train_N = np.arange(2 * each) % each < n_train
    return found.where(is_train_N), found.where(~is_train_N)


def _apart(prompts: Prompts, attribute: str, n: int, random: np.random.Generator) -> np.ndarray:
    """At most n different pairs (base, source) of prompts that ask for an attribute, with other values."""
    own = np.flatnonzero(prompts.attribute_S == attribute)
    found = []
    for base in np.resize(random.permutation(own), n if len(own) else 0):
        others = own[prompts.value_S[own] != prompts.value_S[base]]
        if len(others):
            found.append((base, random.choice(others)))
    unique = np.unique(np.array(found, int).reshape(-1, 2), axis=0)
    return random.permutation(unique)
