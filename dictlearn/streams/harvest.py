"""Harvesting: run a language model over text once, and keep what passes its taps in a store.

Documents are split into train and held-out and packed into sequences, and the train sequences are
cut into shards of whole sequences. The rows of a shard are its unmasked tokens, in an order drawn
from (seed, shard number). So a shard is a pure function of the recipe and its number, and a harvest
that was killed is continued by running it again.
"""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dictlearn import lm as language
from dictlearn.streams import store_write
from dictlearn.streams.store import DTYPES

_STORED = {np.dtype(DTYPES[code]).name: DTYPES[code] for code in ("BF16", "F16", "F32")}


def harvest(
    lm: language.LM,
    path: str | Path,
    taps: Sequence[str],
    *,
    text: str | Path = "wiki",
    n_tokens: int | None = None,
    sequence_length: int = 128,
    held_out: float = 0.1,
    shard_rows: int = 65536,
    lm_batch: int = 16,
    dtype: str = "bfloat16",
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write the activations of `taps` on the unmasked tokens of `text` into the store at `path`.

    text: what `lm.documents` takes; a fraction `held_out` of its documents gives no rows. n_tokens:
    unmasked tokens wanted, rounded up to a whole sequence; None is all. shard_rows: rows of a
    shard, give or take a sequence. lm_batch: sequences to a forward pass. progress: called with
    (rows done, rows in all) after every forward pass and every shard that was there already.

    A complete store of the same recipe is left as it is. Errors: ValueError for an unknown tap or
    dtype, too little text, a folder that holds anything else, or activations that are not finite
    in `dtype`; OSError for a full disk."""
    _check(lm, taps, dtype, sequence_length, shard_rows, lm_batch)
    path, (train, rest) = Path(path), language.documents(text, seed, held_out)
    tokens_ST, mask_ST = _first(*_pack(lm, train, sequence_length), n_tokens)
    rest_tokens_ST, rest_mask_ST = _pack(lm, rest, sequence_length)
    run = _forward(lm, taps, dtype)
    example = jax.ShapeDtypeStruct((lm_batch, sequence_length), jnp.int32)
    widths = {tap: rows.shape[-1] for tap, rows in jax.eval_shape(run, lm.params, example).items()}
    recipe = {
        "model": {"name": lm.name, **lm.source},
        "text": {
            "source": Path(text).name,
            "train": hashlib.sha256(tokens_ST.tobytes()).hexdigest(),
            "held_out": hashlib.sha256(rest_tokens_ST.tobytes()).hexdigest(),
        },
        "taps": {tap: widths[tap] for tap in taps},
        "dtype": dtype,
        "n_tokens": n_tokens,
        "sequence_length": sequence_length,
        "held_out": held_out,
        "shard_rows": shard_rows,
        "lm_batch": lm_batch,
        "seed": seed,
    }
    manifest = store_write.begin(path, recipe)
    if manifest is None:
        return
    store_write.add_tokens(path, manifest, "train", tokens_ST, mask_ST)
    store_write.add_tokens(path, manifest, "held_out", rest_tokens_ST, rest_mask_ST)
    _write_shards(path, manifest, run, lm, tokens_ST, mask_ST, progress)
    store_write.complete(path, manifest)


def _write_shards(path, manifest, run, lm, tokens_ST, mask_ST, progress) -> None:
    recipe, done, total = manifest["recipe"], 0, int(mask_ST.sum())
    rows_S = mask_ST.sum(axis=1)
    shard_S = (np.cumsum(rows_S) - rows_S) // recipe["shard_rows"]
    for shard in range(int(shard_S[-1]) + 1):
        chosen_S = np.flatnonzero(shard_S == shard)
        rows = int(rows_S[chosen_S].sum())
        if store_write.shard_name(shard) in manifest["shards"]:
            progress(done + rows, total)
        else:
            pieces = []
            for start in range(0, len(chosen_S), recipe["lm_batch"]):
                sequence_S = chosen_S[start : start + recipe["lm_batch"]]
                pieces.append(_rows(run, lm, tokens_ST, mask_ST, sequence_S, recipe["lm_batch"]))
                progress(done + sum(len(piece["sequence_R"]) for piece in pieces), total)
            store_write.add_shard(path, manifest, shard, _shuffled(pieces, recipe["seed"], shard))
        done += rows


def _rows(run, lm, tokens_ST, mask_ST, sequence_S, lm_batch) -> dict[str, np.ndarray]:
    """The rows [R, D] of each tap on some sequences, and where they came from. The forward pass
    always has `lm_batch` sequences, the missing ones all token 0, so that it compiles once."""
    tokens_BT = np.zeros((lm_batch, tokens_ST.shape[1]), np.int32)
    tokens_BT[: len(sequence_S)] = tokens_ST[sequence_S]
    index_R, position_R = np.nonzero(mask_ST[sequence_S])
    tensors = {
        "sequence_R": sequence_S[index_R].astype(np.int32),
        "position_R": position_R.astype(np.int32),
    }
    for tap, rows_BTD in jax.device_get(run(lm.params, tokens_BT)).items():
        tensors[tap] = rows_BTD[index_R, position_R]
        finite_R = np.isfinite(tensors[tap]).all(axis=1)
        if not finite_R.all():
            bad = int(np.argmin(finite_R))
            raise ValueError(
                f"Tap {tap} is not finite as {rows_BTD.dtype} in sequence "
                f"{tensors['sequence_R'][bad]}, position {position_R[bad]}; "
                "choose a wider dtype, or look at the model."
            )
    return tensors


def _shuffled(pieces: list[dict[str, np.ndarray]], seed: int, shard: int) -> dict[str, np.ndarray]:
    key = np.random.SeedSequence(seed, spawn_key=(shard,))
    rows = sum(len(piece["sequence_R"]) for piece in pieces)
    order_R = np.random.Generator(np.random.Philox(key)).permutation(rows)
    return {name: np.concatenate([piece[name] for piece in pieces])[order_R] for name in pieces[0]}


def _forward(lm: language.LM, taps: Sequence[str], dtype: str) -> Callable[..., dict[str, Any]]:
    @jax.jit
    def run(params, tokens_BT):
        _, activations = lm.forward(params, tokens_BT)
        return {tap: activations[tap].astype(_STORED[dtype]) for tap in taps}

    return run


def _pack(lm: language.LM, texts: list[str], length: int) -> tuple[np.ndarray, np.ndarray]:
    if not texts:
        return np.zeros((0, length), np.int32), np.zeros((0, length), bool)
    return language.pack(texts, lm.tokenizer, length, lm.separator)


def _first(
    tokens_ST: np.ndarray, mask_ST: np.ndarray, n_tokens: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """The first sequences, as many as hold `n_tokens` unmasked tokens."""
    total_S = np.cumsum(mask_ST.sum(axis=1))
    available = int(total_S[-1]) if len(total_S) else 0
    wanted = available if n_tokens is None else n_tokens
    if not 0 < wanted <= available:
        raise ValueError(
            f"{n_tokens=} must be positive and at most {available}, the unmasked tokens of the "
            "train documents; ask for fewer or give more text."
        )
    used = int(np.searchsorted(total_S, wanted)) + 1
    return tokens_ST[:used], mask_ST[:used]


def _check(lm, taps, dtype, sequence_length, shard_rows, lm_batch) -> None:
    language.check_taps(lm.spec, taps)
    if not taps or len(set(taps)) < len(taps):
        raise ValueError(f"taps={list(taps)} must name at least one tap, each once.")
    if dtype not in _STORED:
        raise ValueError(f"Unknown {dtype=}; a store holds {', '.join(_STORED)}.")
    if shard_rows < sequence_length or lm_batch < 1:
        raise ValueError(f"{shard_rows=} is below {sequence_length=}, or {lm_batch=} below 1.")
    if jax.process_count() > 1:
        raise ValueError(f"A harvest runs in one process, not {jax.process_count()}.")
