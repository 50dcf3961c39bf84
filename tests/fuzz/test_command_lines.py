"""A fuzzer over keys, values, words and bytes of files. Seeded: it takes TRIES, the same on every machine, or
DICTLEARN_FUZZ_SECONDS where that is set.

The array is never there or is damaged, so every input is refused: in one line, by nothing unforeseen, in
bounded time and memory, and with nothing written."""

import random
from pathlib import Path

import numpy as np

from tests.cli.test_refused import FILE
from tests.fuzz.answers import answer
from tests.fuzz.tries import tries

TRIES = 300
KEYS = [
    "seed",
    "steps",
    "batch_size",
    "log_every",
    "checkpoint_every",
    "dictionary.name",
    "dictionary.k",
    "dictionary.n_latents",
    "dictionary.activation",
    "dictionary.aux_k",
    "dictionary.prefixes",
    "objective.name",
    "rule.name",
    "rule.lr",
    "rule.schedule",
    "rule.b1",
    "rule.clip_norm",
    "revive.name",
    "learner.name",
    "learner.dead_after",
    "learner.ema_decay",
    "sweep.k",
    "sweep.seed",
    "sweep.rule.lr",
    "sweep.n_latents",
    "sweep.activation",
    "members.a.dictionary.k",
    "members.a/b.sweep.k",
    "members.a.learner.name",
    "stream.name",
    "stream.normalise",
    "stream.held_out",
    "stream.block_rows",
    "stream.d_in",
    "mesh.data",
    "mesh.sweep",
    "evaluate.pursuits",
    "evaluate.n_tokens",
    "meters.firing.x",
    "analyses.frontier.x",
    "start.workdir",
    "model.path",
    "harvest.taps",
    "nonsense",
    "a.b.c",
]
VALUES = [
    "0",
    "1",
    "-1",
    "3",
    "8.5",
    "nan",
    "inf",
    "-inf",
    "1e400",
    "18446744073709551616",
    "None",
    "True",
    "''",
    "'topk'",
    "'é'",
    "'\\ud800'",
    "()",
    "(1,)",
    "(1,'a')",
    "((8,32),)",
    "[]",
    "{}",
    "{'a':1}",
    "(nan,)",
    "(None,)",
    "matryoshka",
    "jumprelu",
    "itda",
    "adam",
    "npy",
    "lambda:0",
    "__import__('os')",
    ")",
    "\x00",
    "%s",
    "${HOME}",
    "1_000",
    "0x10",
    "(1,2,3,4)",
    "(0,-1)",
    "('topk','relu')",
    "true",
]
WORDS = (
    "--mesh.data=3",
    "--config.model=é",
    "--config.text=",
    "--x",
    "-",
    "--",
    "words",
    "--config.=",
    "--noconfig.k",
)


def words(chance: random.Random) -> list[str]:
    found = [
        f"--config.{chance.choice(KEYS)}={chance.choice(VALUES)}"
        for _ in range(chance.randint(1, 3))
    ]
    return found + ([chance.choice(WORDS)] if chance.random() < 0.2 else [])


def refused(capsys, *argv: str) -> None:
    assert answer(capsys, *argv) in (1, 2), argv


def test_no_command_line_is_answered_with_a_traceback(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("c.py").write_text(FILE)
    tried = 0
    for chance in tries(0, TRIES, 1.0):
        refused(capsys, "train", "--config=c.py:gone.npy", "--workdir=r", *words(chance))
        tried += 1
    assert {path.name for path in tmp_path.iterdir()} <= {"c.py", "__pycache__"}
    print(f"{tried} command lines tried, all refused")


def test_no_bytes_of_an_array_are_answered_with_a_traceback(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("c.py").write_text(FILE)
    np.save("x.npy", np.zeros((40, 8), "f4"))
    whole, chance = Path("x.npy").read_bytes(), random.Random(1)
    for _ in range(40):
        damaged = bytearray(whole[: chance.randrange(120)])
        for _ in range(chance.randrange(4)):
            if damaged:
                damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        Path("x.npy").write_bytes(bytes(damaged))
        refused(capsys, "train", "--config=c.py", "--workdir=r")
    assert not Path("r").exists()
