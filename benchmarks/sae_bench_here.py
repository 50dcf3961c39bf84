"""For benchmarks/sae_bench.py: the model, the dictionary and the data of both sides, and our analyses."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dictlearn import analyses, interop, restore, tasks
from dictlearn import lm as language
from dictlearn.analyses import _ablated, _absorption, _asked, _documents, absorption, core, scr, tpp
from dictlearn.analyses._probing import LLM, SAE
from dictlearn.harvest import harvest
from dictlearn.ops.sparse_probes.logistic import Probe
from dictlearn.runs.trained import Trained
from dictlearn.train import train

TASK = "wiki_topics"
LAYERS, TAP, F, K, T = 8, "resid.5", 1024, 32, 32
DRAWS, CLASSES, PAIR, NS = 3, 3, ("Arts", "History"), (2, 20)
SIZES = {"n_train": 160, "n_test": 80, "splits": 1, "context": T}
LETTERS, N_WORDS, N_EXAMPLES = "SCPA", 400, 3
SEQUENCES, CORE_T = 16, 64
CONCEPTS = ("professor / nurse", "male / female")
BIASED = "male_professor / female_nurse"
"""SAEBench's names of the class, the value and the biased pair, whatever they are."""


def trained_here(lm: language.LM, home: Path, n: int) -> list[Trained]:
    """TopKs of the residual stream of several seeds, folded."""
    harvest(lm, home / "activations", (TAP,), n_tokens=100_000, sequence_length=64)
    stream = {"name": "store", "path": str(home / "activations"), "tap": TAP}
    config = {
        **{"seed": 0, "steps": 400, "batch_size": 1024, "log_every": 100},
        "stream": {**stream, "normalise": "unit_mean_sq"},
        "dictionary": {"name": "topk", "n_latents": F, "k": K},
        "objective": {"name": "fvu"},
        "rule": {"name": "adam", "lr": 1e-3, "warmup_steps": 10},
        "sweep": {"seed": tuple(range(n))},
    }
    train(config, home / "run")
    return [one.folded() for one in restore(home / "run")]


def saved(trained: Sequence[Trained], home: Path) -> None:
    """Writes them where SAEBench finds them, in their order."""
    for n, one in enumerate(trained):
        interop.save(one, home / f"sae_{n:03}", "saelens")


def documents(lm: language.LM, seed: int) -> dict[str, Any]:
    """The train and the test documents of each class, and of the two concepts and the biased pair, as SAEBench
    reads them. TransformerLens puts the separator in front."""
    drawn = _asked.drawn(TASK, {"classes": CLASSES}, lm, *_sizes(), seed)
    said = lambda of, chosen: [of.text[s] for s in chosen]
    sides = list(zip(*tasks.split(drawn, seed), strict=True))
    classes = [
        {name: said(drawn, own) for name, own in zip(drawn.classes, side, strict=True)}
        for side in sides
    ]
    crossed = _crossed(lm, seed)
    train_side, test_side = zip(*tasks.split(crossed, seed), strict=True)
    half = [one[: (len(one) + 1) // 2] for one in train_side]
    named = lambda cells, biased: {k: said(crossed, v) for k, v in _six(cells, biased).items()}
    pair = [named(half, train_side), named(test_side, test_side)]
    return {"classes": classes, "pair": pair}


def _sizes() -> tuple[int, int]:
    return SIZES["n_train"], SIZES["n_test"]


def _crossed(lm: language.LM, seed: int) -> tasks.Drawn:
    data = _asked.Data(TASK, *_sizes(), T, seed, "", TAP)
    return scr.crossed(tasks.make(TASK, lm.tokenizer), PAIR, {}, data)


def _six(cells: Sequence[np.ndarray], biased: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """The documents under the six names of SAEBench, from cells in the order a u, a v, b u, b v."""
    au, av, bu, bv = cells
    both = lambda *these: np.concatenate(these)
    return {
        **{"professor / nurse": both(au, av), "nurse_data_only": both(bu, bv)},
        **{"male / female": both(au, bu), "female_data_only": both(av, bv)},
        BIASED: biased[0],
        "female_nurse_data_only": biased[3],
    }


def word_file(lm: language.LM, home: Path) -> str:
    """The words of a few letters, as a task."""
    task = tasks.make("first_letters", lm.tokenizer, classes=tuple(LETTERS))
    rows = [
        {"text": text, "label": label}
        for text, label in zip(task.text, task.label_S.tolist(), strict=True)
    ]
    (home / "words.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(home / "words.jsonl")


class Words(NamedTuple):
    """The words of `absorption` with a seed, which are tested, and the tokens of their prompts."""

    task: tasks.Task
    test_S: np.ndarray
    tokens: list[list[int]]

    def prompts(self, lm: language.LM) -> dict[str, str]:
        """{word: its prompt}, the train words first."""
        text = lambda ids: lm.tokenizer.decode(ids[1:], skip_special_tokens=False)
        order = np.argsort(self.test_S, kind="stable")
        return {self.task.text[s]: f"{text(self.tokens[s])} has the first letter:" for s in order}


def words(lm: language.LM, path: str, seed: int) -> Words:
    chosen = absorption._chosen(tasks.make(path, lm.tokenizer), N_WORDS, N_EXAMPLES, seed)
    part_S = np.arange(len(chosen.text)) % absorption._FOLDS
    tokens = absorption._prompts(lm, chosen, part_S, N_EXAMPLES, seed)
    return Words(chosen, part_S == 0, tokens)


def settings(seed: int, words: str) -> dict[str, dict[str, Any]]:
    """The settings of each analysis with a seed."""
    whole = {TASK: {"classes": CLASSES}}
    return {
        "sparse_probing": {**SIZES, "tasks": whole, "all_latents": True, "seed": seed},
        "scr": {**SIZES, "tasks": {TASK: {"pairs": [PAIR]}}, "ns": NS, "seed": seed},
        "tpp": {**SIZES, "tasks": whole, "ns": NS, "seed": seed},
        "absorption": {
            **{"task": words, "n_words": N_WORDS, "n_examples": N_EXAMPLES},
            **{"splits": 1, "seed": seed},
        },
    }


def measured(name: str, trained: Sequence[Trained], home: Path, **more: Any) -> dict[str, Any]:
    """{"seconds" of the whole analysis, by the clock and of the processor, the "values" of the first dictionary
    by SAEBench's keys, those of SAEBench's "formulas"}."""
    begin = time.perf_counter(), time.process_time()
    subject = analyses.Subject("ours", given=trained)
    result = analyses.run(name, [subject], model=str(home / "model"), tap=TAP, **more)
    seconds = time.perf_counter() - begin[0], time.process_time() - begin[1]
    record = result.values["dictionaries"][trained[0].name]
    formulas = record.get("eval_result_unstructured", {}).get("saebench_formulas", {})
    values = {k: v for group in record["eval_result_metrics"].values() for k, v in group.items()}
    return {"seconds": seconds, "values": values, "formulas": formulas}


def again(
    name: str, lm: language.LM, trained: Trained, seed: int, path: str, probes: Mapping
) -> dict:
    """Our scores with the probes that SAEBench trained in the place of ours."""
    subject = analyses.Subject.of(trained)
    if name == "absorption":
        return absorbed(words(lm, path, seed), lm, subject, probes)
    of = lambda key: Probe(np.array(probes[key][:-1]), probes[key][-1])
    whole = {"classes": CLASSES}
    drawn = _crossed(lm, seed) if name == "scr" else _asked.drawn(TASK, whole, lm, *_sizes(), seed)
    asked = _asked.asked(subject, lm, (TAP,), drawn, T, seed)
    basis, x_SD = _ablated.dictionaries(subject, asked)[SAE, trained.name], asked.rows[LLM, ""]
    if name == "scr":
        bias = scr.bias(x_SD, drawn, seed)
        bias = bias._replace(probe=of(BIASED), clean=[of(one) for one in CONCEPTS])
        return scr.score(x_SD, basis, bias, NS)
    questions = tasks.questions(drawn, seed)
    return tpp.score(x_SD, basis, questions, [of(one.name) for one in questions], NS)


def absorbed(of: Words, lm: language.LM, subject: analyses.Subject, probes: Mapping) -> dict:
    """Our scores of words with SAEBench's probes and main latents, {letter: {"probe", "main", "f1"}}."""
    x_SD = _documents.last_rows(lm, (TAP,), of.tokens)
    basis = _ablated.bases(subject, x_SD, 0)[0][SAE, subject.only.name]
    found = []
    for letter, one in probes.items():
        w_D, b = np.array(one["probe"][:-1]), one["probe"][-1]
        p_D, main = w_D / np.linalg.norm(w_D), np.array(one["main"])
        own_S = of.test_S & (of.task.label_S == letter) & (x_SD @ w_D + b > 0)
        codes_BF, cosine_F = basis.code_SF[own_S], basis.atoms_FD @ p_D
        along = _absorption.absorbed(x_SD[own_S] @ p_D, codes_BF, cosine_F, main)
        if one["f1"] > _absorption._FEWEST_F1:
            found.append(_absorption.Label(letter, main, *along))
    return absorption._metrics(found)


def core_tokens(lm: language.LM, trained: Trained, path: Path) -> np.ndarray:
    """Writes sequences that begin with the separator to a file, and returns those that `core` reads of it."""
    rows_ST = language.sequences("wiki", lm.tokenizer, CORE_T - 1, lm.separator)[1].tokens_ST
    rows_ST = np.asarray(rows_ST[: 2 * SEQUENCES])
    rows_ST = np.concatenate([np.full((len(rows_ST), 1), lm.separator), rows_ST], axis=1)
    np.save(path, rows_ST.astype(np.int32))
    found = core._text(analyses.Subject.of(trained), lm, str(path), CORE_T, 0)
    return np.asarray(found.tokens_ST[:SEQUENCES])
