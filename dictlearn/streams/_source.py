"""Shared by a harvest and the stream `from_lm`: packed text, and the activations of a model at its taps.

The model runs where `lm.load(mesh=...)` placed it; a model on one device is copied to all devices of this
process that divide `lm_batch` evenly. Only the parameters that the taps need are copied.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dictlearn import lm as language
from dictlearn import sharding
from dictlearn.lm.text import Packed
from dictlearn.streams.store import DTYPES

_STORED = {np.dtype(DTYPES[code]).name: DTYPES[code] for code in ("BF16", "F16", "F32")}


@dataclass(frozen=True)
class Recipe:
    """Which rows to harvest: of which taps and which text. The arguments of `config.harvest`.

    taps: names, or patterns such as 'resid.{4,8,12}' and 'resid.*'; 'grad.resid.9' is the gradient of the
    model's loss there (lm/gradients.py). text, column, split: as in `lm.documents`. held_out: the fraction of
    the documents that gives no rows. n_tokens: the number of unmasked tokens, rounded up to a whole sequence;
    None for all. shard_rows: about the number of rows of a shard on disk, which is a whole number of sequences.
    lm_batch: the number of sequences of a forward pass. dtype: the dtype of stored rows: bfloat16, float16 or
    float32.
    """

    taps: str | Sequence[str] = ()
    text: str | Path = "wiki"
    column: str = "text"
    split: str | None = None
    n_tokens: int | None = None
    sequence_length: int = 128
    held_out: float = 0.1
    shard_rows: int = 65536
    lm_batch: int = 16
    dtype: str = "bfloat16"
    seed: int = 0

    @classmethod
    def of(cls, **arguments: Any) -> "Recipe":
        """The recipe of these arguments. Raises TypeError for an unknown one, listing the known ones."""
        known = [field.name for field in fields(cls)]
        for name in arguments:
            if name not in known:
                raise TypeError(f"A harvest has no argument {name!r}; it takes {', '.join(known)}.")
        return cls(**arguments)

    def __post_init__(self):
        if self.dtype not in _STORED:
            raise ValueError(f"Unknown dtype={self.dtype!r}; a store holds {', '.join(_STORED)}.")
        if self.shard_rows < self.sequence_length or self.lm_batch < 1:
            raise ValueError(
                f"shard_rows={self.shard_rows} is below sequence_length={self.sequence_length}, "
                f"or lm_batch={self.lm_batch} below 1."
            )


class Source:
    """A recipe with its model. widths: the width of each tap, in the order of the recipe. train, held_out: the
    packed text.
    """

    train: Packed
    held_out: Packed

    def __init__(self, lm: language.LM, recipe: Recipe):
        """Raises ValueError for an unknown tap, or too little text."""
        self.taps = language.gradients.expand(lm.spec, recipe.taps)
        if not self.taps:
            raise ValueError(f"taps={recipe.taps!r} must name at least one tap, such as 'resid.9'.")
        self.lm, self.recipe = lm, recipe
        train, self.held_out = language.sequences(
            recipe.text,
            lm.tokenizer,
            recipe.sequence_length,
            lm.separator,
            seed=recipe.seed,
            held_out=recipe.held_out,
            column=recipe.column,
            split=recipe.split,
            vocab=lm.spec.vocab,
            n_tokens=recipe.n_tokens,
        )
        self.train = _first(train, recipe.n_tokens)
        example = jax.ShapeDtypeStruct((1, self.train.tokens_ST.shape[1]), jnp.int32)
        widths = jax.eval_shape(self._forward(self.taps), lm.params, example)
        self.widths = {tap: widths[tap].shape[-1] for tap in self.taps}

    def tap(self, name: str | None) -> str:
        """The tap `name`, or the only one. Raises ValueError for a tap that is not in the recipe, and for None
        if the recipe has several.
        """
        if name is None and len(self.taps) > 1:
            raise ValueError(f"The recipe has several taps; choose stream.tap from {self.taps}.")
        if name is not None and name not in self.taps:
            raise ValueError(f"The recipe has no tap {name!r}; it has {self.taps}.")
        return self.taps[0] if name is None else name

    def identity(self) -> dict[str, Any]:
        """Everything that determines the bytes of a store, as JSON."""
        recipe = self.recipe
        return {
            "model": {"name": self.lm.name, **self.lm.source},
            "text": {
                "source": Path(recipe.text).name,
                "train": _digest(self.train),
                "held_out": _digest(self.held_out),
            },
            "parameters": sorted({str(leaf.dtype) for leaf in jax.tree.leaves(self.lm.params)}),
            "taps": self.widths,
            "dtype": recipe.dtype,
            "n_tokens": recipe.n_tokens,
            "sequence_length": recipe.sequence_length,
            "held_out": recipe.held_out,
            "shard_rows": recipe.shard_rows,
            "lm_batch": recipe.lm_batch,
            "seed": recipe.seed,
        }

    def _forward(self, taps: Sequence[str]):
        def run(params, tokens_BT):
            activations = language.gradients.read(self.lm.forward, params, tokens_BT, taps)
            return {tap: activations[tap].astype(_STORED[self.recipe.dtype]) for tap in taps}

        return run


class Forward:
    """The compiled forward pass of a source, to some of its taps."""

    def __init__(self, source: Source, taps: Iterable[str]):
        self._lm_batch, self._dtype = source.recipe.lm_batch, source.recipe.dtype
        length = source.train.tokens_ST.shape[1]
        params, mesh = source.lm.params, _mesh(source.lm.params, self._lm_batch)
        tokens = {"tokens_BT": jax.ShapeDtypeStruct((self._lm_batch, length), jnp.int32)}
        self._placed = sharding.shardings(tokens, mesh)["tokens_BT"]
        struct = lambda leaf, to: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=to)
        abstract = jax.tree.map(struct, params, sharding.shardings(params, mesh))
        example = struct(tokens["tokens_BT"], self._placed)
        run = source._forward(tuple(taps))
        with jax.set_mesh(mesh):
            self._run = jax.jit(run).lower(abstract, example).compile()
        (needed, _), _ = self._run.input_shardings
        put = lambda leaf, to: leaf if to is None else jax.device_put(leaf, to)
        self._params = jax.tree.map(put, params, needed)

    def rows(self, packed: Packed, jobs: Iterable[np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
        """The rows `[R, D]` of each tap at unmasked tokens, with `sequence_R` and `position_R`, for each job.

        A job is the indices of at most `lm_batch` sequences. The device computes the next job while the
        caller uses the last one. Raises ValueError for a row that is not finite in the recipe's dtype.
        """
        waiting = None
        for sequence_S in jobs:
            started = sequence_S, self._start(packed.tokens_ST[sequence_S])
            if waiting is not None:
                yield self._finish(packed, *waiting)
            waiting = started
        if waiting is not None:
            yield self._finish(packed, *waiting)

    def whole(self, packed: Packed, sequence_S: np.ndarray) -> dict[str, np.ndarray]:
        """The activations at each tap for all tokens of these sequences, also masked ones: [S, T, D], in the
        recipe's dtype.
        """
        started = [self._start(packed.tokens_ST[part]) for part in cut(sequence_S, self._lm_batch)]
        join = lambda tap: np.concatenate([np.asarray(one[tap]) for one in started])
        return {tap: join(tap)[: len(sequence_S)] for tap in started[0]}

    def _start(self, tokens_ST: np.ndarray) -> dict[str, jax.Array]:
        """Runs the forward pass, padded to `lm_batch` sequences with token 0."""
        tokens_BT = np.zeros((self._lm_batch, tokens_ST.shape[1]), np.int32)
        tokens_BT[: len(tokens_ST)] = tokens_ST
        return self._run(self._params, jax.device_put(tokens_BT, self._placed))

    def _finish(self, packed: Packed, sequence_S: np.ndarray, found: Mapping[str, Any]):
        index_R, position_R = np.nonzero(packed.mask_ST[sequence_S])
        rows = {
            "sequence_R": sequence_S[index_R].astype(np.int32),
            "position_R": position_R.astype(np.int32),
        }
        for tap, rows_BTD in found.items():
            rows[tap] = np.asarray(rows_BTD)[index_R, position_R]
            finite_R = np.isfinite(rows[tap]).all(axis=1)
            if not finite_R.all():
                bad = int(np.argmin(finite_R))
                raise ValueError(
                    f"Tap {tap} is not finite as {self._dtype} in sequence "
                    f"{rows['sequence_R'][bad]}, position {position_R[bad]}; "
                    "choose a wider dtype, or inspect the model."
                )
        return rows


def _digest(packed: Packed) -> str:
    """A checksum of the tokens and the mask, which depend on the tokenizer and the packing."""
    found = hashlib.sha256(packed.tokens_ST.tobytes())
    found.update(packed.mask_ST.tobytes())
    return found.hexdigest()


def cut(sequence_S: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Cuts the indices of sequences into pieces of `size`; the last one may be shorter."""
    for start in range(0, len(sequence_S), size):
        yield sequence_S[start : start + size]


def shuffled(
    pieces: list[dict[str, np.ndarray]], seed: int, key: tuple[int, ...]
) -> dict[str, np.ndarray]:
    """The rows of all pieces, in an order drawn from (seed, key)."""
    rows = sum(len(piece["sequence_R"]) for piece in pieces)
    order_R = random(seed, key).permutation(rows)
    return {name: np.concatenate([piece[name] for piece in pieces])[order_R] for name in pieces[0]}


def random(seed: int, key: tuple[int, ...]) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=key)))


def _mesh(params, lm_batch: int):
    placed = getattr(jax.tree.leaves(params)[0], "sharding", None)
    mesh = getattr(placed, "mesh", None)
    if mesh is not None and mesh.size > 1:
        return mesh
    return sharding.local_mesh(math.gcd(lm_batch, jax.local_device_count()))


def _first(packed: Packed, n_tokens: int | None) -> Packed:
    """The first sequences, as many as hold `n_tokens` unmasked tokens."""
    total_S = np.cumsum(packed.mask_ST.sum(axis=1))
    available = int(total_S[-1]) if len(total_S) else 0
    wanted = available if n_tokens is None else n_tokens
    if not 0 < wanted <= available:
        raise ValueError(
            f"{n_tokens=} must be positive and at most {available}, the unmasked tokens of the "
            "train documents; ask for fewer or give more text."
        )
    used = int(np.searchsorted(total_S, wanted)) + 1
    return Packed(packed.tokens_ST[:used], packed.mask_ST[:used])
