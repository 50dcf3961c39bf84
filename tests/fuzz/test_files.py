"""Files that are handed over, damaged: dictionaries of every format, a run's workdir, text and tokens.

Seeded. A test takes a number of tries, the same on every machine, or a part of DICTLEARN_FUZZ_SECONDS where it
is set. The answer is a result or a line that refuses, in bounded time and memory; what is refused has written
nothing."""

import gc
import importlib
import json
import shutil
from collections import Counter

import numpy as np
import pytest
from etils import epath
from safetensors.numpy import save_file

from dictlearn import cli, interop
from dictlearn.lm import text, text_tokens
from dictlearn.runs import _seal
from dictlearn.runs.checkpoint import RECORD
from tests.cli.test_refused import FILE
from tests.fuzz.answers import answer
from tests.fuzz.damage import damaged, odd
from tests.fuzz.tries import tries
from tests.interop.test_conformance import parts, trained

SHARE = 0.2


def content(folder):
    """What is in the files of a folder."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def harmed(chance, path, whole):
    """A file as it is after damage: its JSON stays JSON every second time."""
    is_json = path.suffix == ".json" or path.name == RECORD
    if is_json and chance.random() < 0.5:
        return odd(chance, whole.decode()).encode("utf-8", "surrogatepass")
    return damaged(chance, whole)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A dictionary in every format that holds one of two."""
    folder = tmp_path_factory.mktemp("dictionaries")
    kinds = trained("relu", subtract_b_dec=False), trained("topk")
    for format in interop.names():
        for one in kinds:
            path = folder / f"{format}{interop.format_of(format).SUFFIX}"
            try:
                interop.save(one, path, format)
                break
            except ValueError:
                continue
    return folder


def test_no_damage_to_a_dictionary_is_answered_with_a_traceback(files, tmp_path, capsys):
    counts, sources = Counter(), sorted(files.iterdir())
    for chance in tries(2, 60, SHARE):
        source = chance.choice(sources)
        path = chance.choice(parts(source))
        whole = path.read_bytes()
        path.write_bytes(harmed(chance, path, whole))
        code = answer(capsys, "convert", str(source), str(tmp_path / "out.npz"), "--to=npz")
        path.write_bytes(whole)
        assert code == 0 or not any(tmp_path.iterdir()), path
        (tmp_path / "out.npz").unlink(missing_ok=True)
        counts["refused" if code else "read"] += 1
    print(f"damaged dictionaries of {len(sources)} formats: {dict(counts)}")
    assert counts["refused"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    np.save(folder / "x.npy", np.random.default_rng(0).normal(size=(200, 8)).astype("f4"))
    (folder / "c.py").write_text(FILE.replace('"x.npy"', repr(str(folder / "x.npy"))))
    config = [f"--config={folder / 'c.py'}", "--config.checkpoint_every=1"]
    assert cli.main(["train", *config, f"--workdir={folder / 'run'}"]) == 0
    return folder / "run"


VERBS = (["export"], ["eval"], ["report"], ["fit"], ["analyse", "consistency"])


# Where one array of a checkpoint cannot be read, Orbax leaves its other coroutines unfinished.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <coroutine object ")
def test_no_damage_to_a_run_is_answered_with_a_traceback(run, tmp_path, capsys, caplog):
    small = sorted(path for path, data in content(run).items() if len(data) < 1 << 16)
    counts, copy = Counter(), tmp_path / "run"
    for chance in tries(3, 8, SHARE):
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(run, copy)
        # A checkpoint has more files than all else, and its seal finds most damage.
        of = [path for path in small if path.parent == run] if chance.random() < 0.6 else small
        path = copy / chance.choice(of).relative_to(run)
        path.write_bytes(harmed(chance, path, path.read_bytes()))
        step = next((one for one in path.parents if one.parent.name == "checkpoints"), None)
        # Damage that the seal does not show: as if it had been written so.
        if step and chance.random() < 0.5:
            _seal.seal(epath.Path(step))
        before, words = content(copy), chance.choice(VERBS)
        code = answer(capsys, *words, f"--workdir={copy}")
        assert code == 0 or content(copy) == before, (words, path)
        counts["refused" if code else "done"] += 1
    gc.collect()  # Tasks whose errors nobody took say so when they go.
    assert not [record for record in caplog.records if record.exc_info]
    print(f"commands on damaged workdirs: {dict(counts)}")
    assert counts["refused"]


def texts(folder):
    """A file of each kind of text and tokens, small."""
    arrow = pytest.importorskip("pyarrow")
    feather, parquet = (
        importlib.import_module(f"pyarrow.{name}") for name in ("feather", "parquet")
    )
    rows = [f'line {i}, "é"\n' for i in range(20)]
    table = arrow.table({"text": rows})
    parquet.write_table(table, folder / "a.parquet")
    feather.write_feather(table, str(folder / "a.feather"))
    records = [{"text": row, "n": None} for row in rows]
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, records)))
    (folder / "a.json").write_text(json.dumps(records, indent=1))
    (folder / "a.csv").write_text("id,text\n" + "".join(f'{i},"a\n""b"""\n' for i in range(20)))
    tokens = np.arange(32, dtype=np.int32).reshape(8, 4)
    np.save(folder / "a.npy", tokens)
    np.savez(folder / "a.npz", input_ids=tokens)
    np.savez_compressed(folder / "b.npz", input_ids=tokens)
    save_file({"tokens": tokens}, folder / "a.safetensors")


def refusal(path):
    """What is said of a file that is refused, else ""."""
    try:
        if path.suffix in (".npy", ".npz", ".safetensors"):
            text_tokens.read(path, 4, 32)
        else:
            text.documents(path)
    except ValueError as error:
        return str(error)
    return ""


def test_no_damage_to_a_text_is_an_error_of_another_kind(tmp_path):
    texts(tmp_path)
    paths, counts = sorted(tmp_path.iterdir()), Counter()
    for chance in tries(4, 400, SHARE):
        path = chance.choice(paths)
        whole = path.read_bytes()
        path.write_bytes(harmed(chance, path, whole))
        said = refusal(path)
        path.write_bytes(whole)
        assert path.name in said or not said
        counts["refused" if said else "read"] += 1
    print(f"damaged texts and tokens: {dict(counts)}")
    assert counts["refused"]
