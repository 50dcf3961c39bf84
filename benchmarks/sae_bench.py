"""SAEBench's evaluations there and here: the same model, dictionary, documents, words and splits, in one run.

    python benchmarks/sae_bench.py --sae_bench=PYTHON [--dictionaries=1]

PYTHON is the interpreter of an environment of its own with torch 2.13.0 and sae-bench 0.6.0 without torchvision
and sae-probes. The dictionary is a TopK of 1,024 latents of SmolLM2, trained here; the texts are leads of
Wikipedia, and words of the vocabulary. `core` runs once, on the whole model. The others run on several draws of
documents and words, on the first blocks of the model. With --dictionaries, several TopKs of other seeds are
evaluated on both sides; the numbers are of the first one, the seconds of all. SAEBench keeps the activations of
the documents for the next dictionary, as by default. docs/benchmarks.md has the figures.
"""

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sae_bench_here as ours
import sae_bench_scripts as scripts
from tools_circuits import cut
from tools_common import MODEL, TRANSFORMER_LENS, ran

from dictlearn import lm as language
from dictlearn.analyses import _asked
from dictlearn.runs.trained import Trained


def of_core(
    python: str, lm: language.LM, trained: Sequence[Trained], home: Path
) -> tuple[list, list]:
    """`core` there and here, on the whole model."""
    language.save(lm, home / "model")
    ours.saved(trained, home)
    text = home / "rows.npy"
    np.save(home / "tokens.npy", ours.core_tokens(lm, trained[0], text))
    known = {"length": ours.CORE_T, "separator": lm.separator}
    there: Any = ran(python, MODEL + TRANSFORMER_LENS + scripts.CORE, home, **known)
    size = {"n_sequences": ours.SEQUENCES, "n_tokens": ours.SEQUENCES * ours.CORE_T}
    size |= {"context": ours.CORE_T, "text": str(text)}
    return there["core"], [ours.measured("core", trained, home, **size) for _ in range(2)]


def of_draws(
    python: str, lm: language.LM, trained: Sequence[Trained], home: Path
) -> tuple[dict, dict, dict]:
    """The other evaluations there, here, and here with the probes of SAEBench."""
    language.save(lm, home / "model")
    ours.saved(trained, home)
    path, draws = ours.word_file(lm, home), range(ours.DRAWS)
    given = {"letters": ours.LETTERS, "documents": [ours.documents(lm, n) for n in draws]}
    given["classes"] = list(given["documents"][0]["classes"][0])
    given["words"] = [ours.words(lm, path, n).prompts(lm) for n in draws]
    (home / "given.json").write_text(json.dumps(given))
    np.save(home / "tokens.npy", np.empty(0))
    known = {"length": ours.T, "ns": ours.NS, "separator": lm.separator}
    there: Any = ran(python, MODEL + TRANSFORMER_LENS + scripts.DRAWS, home, **known)
    each = [ours.settings(n, path) for n in draws]
    here = {
        name: [ours.measured(name, trained, home, **one[name]) for one in each] for name in each[0]
    }
    again = {
        name: [ours.again(name, lm, trained[0], n, path, there[name][n]["probes"]) for n in draws]
        for name in ("scr", "tpp", "absorption")
    }
    return there, here, again


def show_core(there: Mapping, here: Mapping) -> None:
    print("| key of `core` | there | here | difference | under `compat` |\n|---|---|---|---|---|")
    apart = lambda one, other: abs(one - other) / max(abs(other), 1e-9)
    for key in filter(there.__contains__, here["values"]):
        value, other = there[key], here["values"][key]
        formula = here["formulas"].get(key)
        said = "" if formula is None else f"{formula:.6g}, {apart(value, formula):.1e}"
        print(f"| `{key}` | {value:.6g} | {other:.6g} | {apart(value, other):.1e} | {said} |")


def show_draws(there: Mapping, here: Mapping, own: Mapping) -> None:
    print("\n| evaluation | key | there | here | difference | \u00b1 | within | its probes here |")
    print("|---|---|---|---|---|---|---|---|")
    for name in here:
        said = {key for key, value in there[name][0]["values"].items() if value is not None}
        for key in filter(said.__contains__, here[name][0]["values"]):
            sides = ([one["values"][key] for one in side[name]] for side in (there, here))
            print(row(name, key, *sides, [one[key] for one in own.get(name, ())]))


def row(name: str, key: str, there: Sequence, here: Sequence, again: Sequence) -> str:
    """A line of the table: means over draws, and the mean difference with the half width of its interval."""
    apart, half = _asked.interval(np.subtract(there, here).tolist())
    within = "yes" if abs(apart) <= half else "no"
    said = f"{np.mean(again):.3f}" if len(again) else ""
    means = f"{np.mean(there):.3f} | {np.mean(here):.3f}"
    return f"| {name} | `{key}` | {means} | {apart:+.3f} | {half:.3f} | {within} | {said} |"


def show_time(there: Mapping, here: Mapping) -> None:
    """Seconds by the clock, and of the processor."""
    print("\n| evaluation | there | here, first call | here, then | times, first | times |")
    print("|---|---|---|---|---|---|")
    both = lambda pair, form: " / ".join(form.format(one) for one in pair)
    for name in here:
        each = ([np.array(one["seconds"]) for one in side[name]] for side in (there, here))
        slow, (first, *rest) = each
        slow, rest = np.mean(slow, axis=0), np.mean(rest, axis=0)
        seconds = " | ".join(both(pair, "{:.1f}") for pair in (slow, first, rest))
        times = " | ".join(both(pair, "{:.1f}") for pair in (slow / first, slow / rest))
        print(f"| {name} | {seconds} | {times} |", flush=True)


def main(python: str, n: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        lm = language.load("smollm2")
        trained = ours.trained_here(cut(lm, ours.LAYERS), home, n)
        places = [home / "whole", home / "blocks"]
        for place in places:
            place.mkdir()
        core = of_core(python, lm, trained, places[0])
        show_core(core[0][0]["values"], core[1][0])
        there, here, again = of_draws(python, cut(lm, ours.LAYERS), trained, places[1])
        show_draws(there, here, again)
        show_time({"core": core[0], **there}, {"core": core[1], **here})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sae_bench", required=True, metavar="PYTHON")
    parser.add_argument("--dictionaries", type=int, default=1)
    given = parser.parse_args()
    main(given.sae_bench, given.dictionaries)
