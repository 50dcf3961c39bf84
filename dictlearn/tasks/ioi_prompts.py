"""Sentences that end before the indirect object: who was given something? (Wang et al. 2023, arXiv:2211.00593).

    "When Mary and John went to the store, John gave a drink to"        io: Mary    s: John    ABB
    "When John and Mary went to the store, John gave a drink to"        io: Mary    s: John    BAB

Indirect objects and subjects are names of two lists. So every combination of an indirect object, a subject, an
order and a template occurs, once: attributes are independent, and each prompt has a counterpart that differs in
one attribute alone.

With `negatives=True` each comes a second time with a third name where the subject is repeated, so that nothing
says who was given something:

    "When Mary and John went to the store, Tom gave a drink to"         io: Mary    s: John    ABC

With `pairs=True` a name has one partner, and each of the two is as often the indirect object: a model that
likes one name better, whatever the prompt, is as often right as wrong.
"""

import itertools

import numpy as np

from dictlearn.tasks._task import Task

_NAMES = (
    *("Mary", "John", "Tom", "James", "Sarah", "Mark", "Paul", "Anna", "David", "Emma", "Peter"),
    *("Kate", "Jack", "Alice", "Robert", "Laura", "Simon", "Jane", "Daniel", "Lucy", "George"),
    *("Helen", "Frank", "Susan", "Henry", "Rachel", "Kevin", "Julia", "Brian", "Diana", "Andrew"),
    *("Martha", "Oliver", "Nancy", "Victor", "Claire", "Eric", "Rose", "Alan", "Grace"),
)
_TEMPLATES = (
    "When {} and {} went to the store, {} gave a drink to",
    "After {} and {} left the school, {} handed a book to",
    "Then {} and {} were in the garden, and {} gave a flower to",
    "While {} and {} were working at the office, {} passed a letter to",
)
ORDERS = {"ABB": ("io", "s"), "BAB": ("s", "io")}
"""Which name is first, and which is second."""
NEGATIVES = {"ABB": "ABC", "BAB": "BAC"}
"""The order of a prompt with a third name."""


def ioi_prompts(
    *,
    n_names: int = 6,
    n_templates: int = 2,
    negatives: bool = False,
    pairs: bool = False,
    seed: int = 0,
) -> Task:
    """Makes the prompts.

    Args:
        n_names: the number of indirect objects, and of subjects.
        n_templates: the number of templates.
        negatives: whether prompts with a third name, another one of the subject's list, are added.
        pairs: whether only the names at the same place of both lists come together, in both roles.
        seed: the seed that draws the names.

    Returns:
        The Task, whose labels are the orders, with the attributes "io", "s" and "template".

    Raises:
        ValueError: for more names or templates than there are.
    """
    if not 2 <= n_names <= len(_NAMES) // 2 or not 1 <= n_templates <= len(_TEMPLATES):
        raise ValueError(
            f"{n_names=} must be in 2..{len(_NAMES) // 2}, and {n_templates=} in 1..{len(_TEMPLATES)}."
        )
    drawn = np.random.default_rng(seed).permutation(_NAMES)[: 2 * n_names].tolist()
    lists = drawn[:n_names], drawn[n_names:]
    third = {own[n - 1]: one for own in lists for n, one in enumerate(own)}
    if pairs:
        couples = [pair for ways in (lists, lists[::-1]) for pair in zip(*ways, strict=True)]
    else:
        couples = list(itertools.product(*lists))
    found = []
    for template, (io, s), order in itertools.product(_TEMPLATES[:n_templates], couples, ORDERS):
        both = {order: s, NEGATIVES[order]: third[s]} if negatives else {order: s}
        for name, giver in both.items():
            found.append((_filled(template, order, io, s, giver), name, io, s, template))
    text, label, io_S, s_S, template_S = map(np.array, zip(*found, strict=True))
    own = {"io": io_S, "s": s_S, "template": template_S}
    return Task(tuple(text.tolist()), label, attributes=own)


def _filled(template: str, order: str, io: str, s: str, giver: str) -> str:
    return template.format(*({"io": io, "s": s}[one] for one in ORDERS[order]), giver)
