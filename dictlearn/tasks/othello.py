"""Random legal games of Othello, cut short: which player has each square?

    "d3 c5 f6 f5 e6"        d3: theirs    e4: mine    a1: empty    ...

The board is seen by the player whose turn it is. The label is whether that is the first player.
"""

from collections.abc import Iterator

import numpy as np

from dictlearn.tasks._task import Task

SIDE = 8
SQUARES = tuple(f"{column}{row}" for row in range(1, SIDE + 1) for column in "abcdefgh")
STATES = ("theirs", "empty", "mine")
_WIDE = SIDE + 2
_PLACES = np.array([_WIDE * (1 + i // SIDE) + 1 + i % SIDE for i in range(SIDE**2)])
"""The squares of a board that has an edge around it."""
_WAYS = (1, _WIDE - 1, _WIDE, _WIDE + 1, -1, 1 - _WIDE, -_WIDE, -1 - _WIDE)
_EDGE = 2


def othello(*, n: int = 400, fewest: int = 5, most: int = 40, seed: int = 0) -> Task:
    """Plays the games.

    Args:
        n: the number of games.
        fewest, most: the bounds on the number of moves, which is drawn.
        seed: the seed of the moves.

    Returns:
        The Task, whose documents are the moves, with an attribute for each square: "mine", "theirs" or "empty".
        Games in which a player has to pass are left out from there on.

    Raises:
        ValueError: for no game, and numbers of moves out of bounds.
    """
    if n < 1 or not 1 <= fewest <= most <= SIDE**2 - 4:
        raise ValueError(
            f"{n=} games must be at least 1, and {fewest=} <= {most=} in 1..{SIDE**2 - 4}."
        )
    random = np.random.default_rng(seed)
    board_SM, moves = begun(n), [[] for _ in range(n)]
    length_S = random.integers(fewest, most + 1, n)
    for t in range(most):
        can_SM = legal(board_SM)
        playing_S = (t < length_S) & can_SM.any(1)
        length_S = np.where(playing_S, length_S, np.minimum(length_S, t))
        at_S = np.where(can_SM, random.random(can_SM.shape), -1).argmax(1)
        board_SM = np.where(playing_S[:, None], played(board_SM, at_S), board_SM)
        for s in np.flatnonzero(playing_S):
            moves[s].append(SQUARES[np.searchsorted(_PLACES, at_S[s])])
    first_S = np.where(length_S % 2 == 0, "first", "second")
    state_AS = np.array(STATES)[board_SM[:, _PLACES] + 1].T
    own = dict(zip(SQUARES, state_AS, strict=True))
    return Task(tuple(map(" ".join, moves)), first_S, attributes=own)


def begun(n: int) -> np.ndarray:
    """Boards before the first move, with an edge: 1 for the player whose turn it is, -1 for the other.

    Args:
        n: the number of boards.

    Returns:
        `[n, 100]`.
    """
    board_SM = np.full((n, _WIDE**2), _EDGE, np.int8)
    board_SM[:, _PLACES] = 0
    for square, owner in (("e4", 1), ("d5", 1), ("d4", -1), ("e5", -1)):
        board_SM[:, _PLACES[SQUARES.index(square)]] = owner
    return board_SM


def legal(board_SM: np.ndarray) -> np.ndarray:
    """Where the player whose turn it is may move."""
    mine_SM = board_SM == 1
    runs = ((run, way) for way in _WAYS for run in _runs(board_SM, mine_SM, way))
    return (board_SM == 0) & np.any([np.roll(run, way, 1) for run, way in runs], axis=0)


def played(board_SM: np.ndarray, at_S: np.ndarray) -> np.ndarray:
    """The boards after a move at each, seen by the other player."""
    new_SM = at_S[:, None] == np.arange(board_SM.shape[1])
    taken_SM = new_SM.copy()
    for way in _WAYS:
        along_SM = np.zeros_like(new_SM)
        for run_SM in _runs(board_SM, new_SM, way):
            along_SM |= run_SM
            ends_S = (np.roll(run_SM, way, 1) & (board_SM == 1)).any(1)
            taken_SM |= along_SM & ends_S[:, None]
    after_SM = np.where(taken_SM, 1, board_SM)
    return np.where(after_SM == _EDGE, _EDGE, -after_SM).astype(np.int8)


def _runs(board_SM: np.ndarray, from_SM: np.ndarray, way: int) -> Iterator[np.ndarray]:
    """The other player's squares at 1, 2, ... steps from some squares, as long as all between are theirs."""
    run_SM = from_SM
    for _ in range(SIDE - 2):
        run_SM = np.roll(run_SM, way, 1) & (board_SM == -1)
        yield run_SM
