"""Board games: whether latents say what is on the squares of a board, after the moves of a game.

    a latent says a property where its code is above a share t of its largest
    coverage          the mean over properties of the F1 of the best latent and t
    reconstruction    the F1 of a board whose properties are those that a latent of precision 0.95 says

A property is that a square is in a state, such as "d3: mine". Latents and t are chosen on some games and scored
on others. A latent that always fires has an F1 above 0 too: `by_chance` is its coverage.

Source: Karvonen et al. 2024 (arXiv:2408.00113), of chess and Othello.
Differs: the best latent of a property is chosen on other games than it is scored on.

Axes: S a game, P a property, T a threshold; the others as in `dictlearn.types`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from dictlearn.analyses import _ablated, _asked, _documents
from dictlearn.analyses._probing import LLM, PCA, SAE, Key
from dictlearn.analyses._result import Result
from dictlearn.analyses._subject import Subject, exactly
from dictlearn.tasks import Task

NEEDS = ("model", "origin")
KEYS = ["coverage", "reconstruction"]
_TRAIN = 0.7
_FEWEST = 4
"""Games with a property, and without it, that either part must have."""
Found = dict[Key, list[dict[str, float]]]
"""{(kind, dictionary): the scores in each split}."""


class How(NamedTuple):
    """How latents are read. The fields are settings of the analysis."""

    thresholds: tuple[float, ...]
    precision: float
    fewest: int


def board_games(
    subjects: Sequence[Subject],
    *,
    task: str | Mapping[str, Mapping[str, Any]] = "othello",
    none: str = "empty",
    thresholds: Sequence[float] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    precision: float = 0.95,
    fewest: int = 10,
    context: int = 256,
    splits: int = 3,
    seed: int = 0,
    model: str = "",
    tap: str = "",
) -> Result:
    """The coverage and the reconstruction of every dictionary, and of the baselines.

    Args:
        subjects: one run on a language model's activations, or dictionaries with `model`.
        task: a task of games whose attributes are the squares: `othello`, or the path of a file of games, as
            `{path: {"attributes": squares}}`.
        none: the state of a square that is no property.
        thresholds: the shares t.
        precision: the precision from which a latent says a property of a board.
        fewest: the games on which such a latent must fire.
        context: the largest number of tokens of a game; the activation is read at the last one.
        splits: how many times games are parted.
        seed: the seed of the parts, and of the random dictionaries.
        model, tap: the model and the tap of dictionaries without a run; empty for the run's, or the file's tap.

    Returns:
        A Result with a record of each dictionary, and a row for each setting with the half width of its 95 %
        interval over dictionary seeds and splits.

    Raises:
        ValueError: for a subject without a model, settings out of bounds, and a task without properties.
    """
    how = How(tuple(thresholds), precision, fewest)
    if not how.thresholds or not 0 <= min(how.thresholds) <= max(how.thresholds) < 1:
        raise ValueError(
            f"thresholds={how.thresholds} must be shares of the largest code, in [0, 1)."
        )
    if not 0 < precision <= 1 or min(fewest, splits) < 1:
        raise ValueError(f"{precision=} must be in (0, 1], {fewest=} and {splits=} at least 1.")
    (subject,) = exactly(1, subjects, "board_games")
    lm, taps = _documents.site(subject, model, tap)
    ((name, more),) = _asked.named(task).items()
    games = _asked.made(name, more, lm, ())
    says_SP = properties(games, none)
    tokens = _documents.tokens(lm, games.text, context)
    bases, l0 = _ablated.bases(subject, _documents.last_rows(lm, taps, tokens), seed)
    found: Found = {at: [] for at in bases}
    for test_S in (_test(len(tokens), seed + n) for n in range(splits)):
        kept_SP = says_SP[:, _both(says_SP[test_S]) & _both(says_SP[~test_S])]
        for at, basis in bases.items():
            found[at].append(scored(basis.code_SF, kept_SP, test_S, how))
    config = {**how._asdict(), "task": task, "none": none, "context": context, "splits": splits}
    values = {"eval_config": {**config, "seed": seed, "model": lm.name, "tap": taps}}
    chance = 2 / (1 + 1 / says_SP[:, _both(says_SP)].mean(0))
    values |= {"documents": {name: games.counts}, "by_chance": float(chance.mean())}
    return _result(subject, values, found, l0)


def properties(games: Task, none: str) -> Bool[np.ndarray, "S P"]:
    """Which squares are in which state.

    Args:
        games: the games.
        none: the state that is no property.

    Returns:
        A column for each square and each of its other states.

    Raises:
        ValueError: where no property is that of some games, and not of others, often enough.
    """
    found = [
        state_S == state
        for state_S in games.attributes.values()
        for state in np.unique(state_S)
        if state != none
    ]
    says_SP = np.stack(found, 1) if found else np.zeros((len(games.text), 0), bool)
    if not _both(says_SP).any():
        raise ValueError(
            f"no square of {len(games.text)} games is in one state in {_FEWEST} of them and not in {_FEWEST} "
            "others; name the squares in the task's attributes, or give more games."
        )
    return says_SP


def _both(says_SP: np.ndarray) -> np.ndarray:
    """Which properties are those of enough games, and not of enough others."""
    return (says_SP.sum(0) >= _FEWEST) & ((~says_SP).sum(0) >= _FEWEST)


def _test(n: int, seed: int) -> np.ndarray:
    """Which games are scored."""
    return np.random.default_rng(seed).permutation(n) >= _TRAIN * n


def scored(
    code_SF: Float[np.ndarray, "S F"],
    says_SP: Bool[np.ndarray, "S P"],
    test_S: Bool[np.ndarray, " S"],
    how: How,
) -> dict[str, float]:
    """The scores of codes in one split.

    Args:
        code_SF: the codes of the boards.
        says_SP: their properties.
        test_S: which boards are scored; latents are chosen on the others.
        how: how latents are read.

    Returns:
        {key: value} of KEYS, NaN without a property.
    """
    largest_F, truth_SP = code_SF[~test_S].max(0), says_SP[test_S]
    best_P, f1_P = np.full(truth_SP.shape[1], -1.0), np.zeros(truth_SP.shape[1])
    said_SP = np.zeros(truth_SP.shape, bool)
    for own_SF, other_SF in _fired(code_SF, test_S, largest_F, how.thresholds):
        hit_FP = own_SF.T @ says_SP[~test_S]
        fires_F1 = own_SF.sum(0)[:, None]
        f1_FP = 2 * hit_FP / (fires_F1 + says_SP[~test_S].sum(0))
        at_P = f1_FP.argmax(0)
        better_P = f1_FP.max(0) > best_P
        best_P = np.where(better_P, f1_FP.max(0), best_P)
        f1_P = np.where(better_P, _f1(other_SF[:, at_P] > 0, truth_SP, 0), f1_P)
        sure_FP = (hit_FP >= how.precision * fires_F1) & (fires_F1 >= how.fewest)
        said_SP |= other_SF @ sure_FP > 0
    values = f1_P, _f1(said_SP, truth_SP, 1)
    return {key: float(one.mean()) for key, one in zip(KEYS, values, strict=True)}


def _fired(
    code_SF: np.ndarray, test_S: np.ndarray, largest_F: np.ndarray, thresholds: Sequence[float]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(where latents are above each threshold on the boards that choose, and on the others), as numbers."""
    for threshold in thresholds:
        on_SF = (code_SF > threshold * np.maximum(largest_F, 0)).astype(np.float32)
        yield on_SF[~test_S], on_SF[test_S]


def _f1(said_SP: np.ndarray, truth_SP: np.ndarray, axis: int) -> np.ndarray:
    """The F1 of what is said, over games or over properties; 1 where nothing is said and nothing is true."""
    hit, both = (said_SP & truth_SP).sum(axis), said_SP.sum(axis) + truth_SP.sum(axis)
    return np.where(both > 0, 2 * hit / np.maximum(both, 1), 1.0)


def _result(
    subject: Subject, values: Mapping[str, Any], found: Found, l0: Mapping[Key, float]
) -> Result:
    """The record of each dictionary, and the rows."""
    mean_l0 = lambda kind, names: float(np.mean([l0[kind, name] for name in names]))
    runs = lambda at, key: [one[key] for one in found[at]]
    rows = _asked.rows(subject, KEYS, runs, mean_l0, (LLM, PCA))
    record = lambda at: {
        "eval_result_metrics": {
            "board_games": {key: float(np.mean(runs(at, key))) for key in KEYS}
        },
        "eval_result_details": found[at],
    }
    dictionaries = {one.name: record((SAE, one.name)) for one in subject.trained}
    table = _asked.table("Boards", rows, {key: key for key in KEYS})
    given = {"eval_type_id": "board_games", **values, "dictionaries": dictionaries}
    return Result({**given, "settings": rows}, [table])
