"""Text: the documents of a corpus, split into train and held-out, and packed into token sequences.

A mask marks the tokens that are data. The first position of a sequence is masked because it is an
attention sink (in SmolLM2 its residual norm is a hundred times larger than at other positions). Special tokens
are masked because they are not text.
"""

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int
from tokenizers import Tokenizer

from dictlearn.lm import text_files, text_tokens
from dictlearn.lm.text_wiki import wiki_leads
from dictlearn.lm.vocabulary import check

_AT_ONCE = 1024


class Packed(NamedTuple):
    """Sequences: int32 tokens, and a mask that is True where a token is data."""

    tokens_ST: np.ndarray
    mask_ST: np.ndarray


def documents(
    source: str | Path = "wiki",
    seed: int = 0,
    held_out: float = 0.1,
    *,
    column: str = "text",
    split: str | None = None,
    n_documents: int | None = None,
) -> tuple[list[str], list[str]]:
    r"""The documents of a corpus, shuffled and split into train and held-out.

    The order and the side of a document are a hash of the seed and its text. So they are the same on every
    machine and for any order of the files. Equal documents are on the same side, and a new document in a corpus
    does not change the side of any other. The fraction `held_out` is met in expectation. Empty documents (blank
    or null) are left out.

    Args:
        source: "wiki" (`wiki_leads`), or
            a .jsonl file                     one document per line, in its field `column`
            a .json file                      the same, or a list of strings or of such records
            a .csv file                       one document per row, in its column `column`; with a header
            a .parquet, .arrow, .feather file one document per row, in its column `column`
            a .txt file                       documents separated by blank lines
            a folder or a glob of such files  all except hidden ones; a .txt file is one document; in a folder,
                                              .arrow, .csv and .json are read where there is no other
            a folder that `save_to_disk` of Hugging Face's `datasets` wrote: column `column`, and the split
                                              `split` of a DatasetDict
            A .jsonl, .json, .csv or .txt file may be compressed (.gz, .zst). It is UTF-8, or the
            encoding of its byte order mark.
        seed: the seed of the order and the split.
        held_out: the fraction that is held out, in [0, 1].
        column: the field or the column of the text.
        split: the split of a DatasetDict.
        n_documents: reads only the first documents of the source, this many; None for all.

    Returns:
        (train, held-out).

    Raises:
        ValueError: for an unknown source, a fraction outside [0, 1], a source without documents, and a line or
            a row that is not text (bytes of another encoding, a NUL, a number), naming it.
        ImportError: where a file needs pyarrow and it is not installed.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "a.txt").write_text("One.\n\nTwo.\n\nThree.")
        ...     train, held_out = documents(f"{folder}/a.txt", held_out=0.0)
        >>> sorted(train), held_out
        (['One.', 'Three.', 'Two.'], [])
    """
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
    n_tokens: int | None = None,
) -> tuple[Packed, Packed]:
    """The token sequences of a corpus, shuffled and split into train and held-out.

    The documents of a source of text are packed by `pack`, each side by itself. Files of tokens (.npy, .npz,
    .safetensors; `text_tokens`), or a folder or a glob of them, are used as they are. Order and side are
    then a hash of the seed and the sequence, `n_documents` counts sequences, and an attention mask becomes
    part of the mask. A side without documents has S = 0.

    Args:
        source, seed, held_out, column, split, n_documents: as in `documents`.
        tokenizer, length, separator, special, first, pad, vocab: as in `pack`.
        n_tokens: as in `pack`, of the train documents alone.

    Returns:
        (train, held-out), each (tokens_ST, mask_ST).

    Raises:
        ValueError: as `documents` and `pack` do, and for tokens beyond the tokenizer or the embedding.
        ImportError: as `documents` does.

    Example:
        >>> import tempfile
        >>> from dictlearn.lm.tokenizer import trained
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.save(f"{folder}/tokens.npy", np.arange(12).reshape(3, 4))
        ...     train, _ = sequences(f"{folder}/tokens.npy", trained(["a"], 300), 4, 0, held_out=0.0)
        >>> train.tokens_ST.shape
        (3, 4)
    """
    sources = [] if source == "wiki" or text_files.is_dataset(source) else text_files.files(source)
    in_tokens = [text_files.ends(path, text_files.TOKENS) for path in sources]
    masking = {"special": special, "first": first, "pad": pad}
    if not any(in_tokens):
        reading = {"column": column, "split": split, "n_documents": n_documents}
        sides = documents(source, seed, held_out, **reading)
        nothing = Packed(np.zeros((0, length), np.int32), np.zeros((0, length), bool))
        train, rest = (
            pack(side, tokenizer, length, separator, **masking, vocab=vocab, n_tokens=enough)
            if side
            else nothing
            for side, enough in zip(sides, (n_tokens, None), strict=True)
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
    n_tokens: int | None = None,
) -> Packed:
    """Concatenates documents, each followed by the separator, and cuts them into sequences.

    The last tokens, too few for a sequence, are dropped. Truncation and padding of the tokenizer are not used.

    Args:
        texts: the documents.
        tokenizer: the tokenizer.
        length: the number of tokens T of a sequence.
        separator: the token after each document.
        special: masks special tokens, including the separator.
        first: masks this many positions at the start of each sequence.
        pad: masks this token; None for none.
        vocab: the number of rows of the embedding of the model that will read the tokens; None to not check.
        n_tokens: stops reading once the sequences hold this many unmasked tokens; None to read all texts.

    Returns:
        (tokens_ST, mask_ST): int32 tokens, and False where a token is masked.

    Raises:
        ValueError: for a `length` of which every position is masked, texts too short for one sequence, and
            tokens beyond `vocab`.

    Example:
        >>> from dictlearn.lm.tokenizer import trained
        >>> packed = pack(["a b", "c d"], trained(["a b c d"], 300), length=4, separator=0)
        >>> packed.mask_ST
        array([[False,  True, False,  True]])
    """
    _check_length(length, first)
    if tokenizer.truncation or tokenizer.padding:
        tokenizer = Tokenizer.from_str(tokenizer.to_str())
        tokenizer.no_truncation()
        tokenizer.no_padding()
    tokens, masks = [np.zeros((0, length), np.int32)], [np.zeros((0, length), bool)]
    rest, left = np.array([], np.int32), n_tokens
    for chunk in _chunks(texts):
        encoded = tokenizer.encode_batch_fast(chunk, add_special_tokens=False)
        ids = np.array([id for one in encoded for id in (*one.ids, separator)], np.int32)
        if vocab is not None:
            check(ids, vocab, "The text", tokenizer)
        rest = np.concatenate([rest, ids])
        whole = rest.size - rest.size % length
        tokens.append(rest[:whole].reshape(-1, length))
        masks.append(_mask(tokens[-1], tokenizer, separator, special, first, pad))
        rest = rest[whole:]
        if left is not None and (left := left - int(masks[-1].sum())) <= 0:
            break
    packed = Packed(np.concatenate(tokens), np.concatenate(masks))
    if len(packed.tokens_ST) == 0:
        raise ValueError(f"{len(texts)} texts give {rest.size} tokens, fewer than {length=}.")
    return packed


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
    """A uniform number in [0, 1) from the hash of the document and the seed, with the 53 bits of a float."""
    digest = hashlib.sha256(f"{seed}\n".encode() + document).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53
