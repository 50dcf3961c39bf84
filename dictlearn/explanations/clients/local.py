"""The language model of this process: it continues conversations, predicts texts and embeds them.

A conversation is written as ChatML where the tokenizer has its marks, and as plain lines where it has not. A
sentence encoder (BERT) only embeds. The vector of a text is the mean over its tokens of the last residual
stream, or of the encoder's output, as a unit vector.
"""

import functools
import hashlib
import json
import threading

import jax
import jax.numpy as jnp
import numpy as np

from dictlearn.explanations.client import CHAT, EMBED, TEXT, Client, Reply, Request
from dictlearn.lm import LM, bert, load
from dictlearn.lm.cells import decode
from dictlearn.lm.generate import generate, prompts

_START, _END = "<|im_start|>", "<|im_end|>"
_BATCH = 16


def local(lm: LM | None = None, model: str = "") -> Client:
    """A client of a loaded language model.

    Args:
        lm: the model.
        model: what `lm.load` takes, if there is no `lm`: a packaged model, a file, a folder, or a name on the
            hub.

    Returns:
        A client that replies to one request at a time.
    """
    return _Local(lm or load(model))


class _Local:
    at_once = 1

    def __init__(self, lm: LM):
        weights = hashlib.sha256(json.dumps(dict(lm.source), sort_keys=True).encode()).hexdigest()
        self.name = f"{lm.name} {weights[:12]}"
        self._lm, self._lock = lm, threading.Lock()
        self._ends = {lm.separator, lm.tokenizer.token_to_id(_END)} - {None}

    def __call__(self, request: Request) -> Reply:
        kinds = {CHAT: self._chat, TEXT: self._text, EMBED: self._embed}
        if isinstance(self._lm.spec, bert.BertSpec) and request.kind != EMBED:
            raise ValueError(
                f"{self._lm.name} is a sentence encoder and only embeds; give a decoder."
            )
        with self._lock:
            return kinds[request.kind](request)

    def _chat(self, request: Request) -> Reply:
        asked = self._tokens(_conversation(request, _END if self._marks() else ""))
        settings = {"temperature": request.temperature, "seed": request.seed}
        found = generate(
            self._lm, [asked], n_tokens=request.max_tokens, stop=self._ends, **settings
        )
        (said,) = found.texts()
        listed = self._predicted(asked, said, request.alternatives) if request.alternatives else ()
        text = decode(self._lm.tokenizer, [token for token in said if token not in self._ends])
        return Reply(text.strip(), tuple(listed), (), len(asked), len(said))

    def _text(self, request: Request) -> Reply:
        context, text = map(self._tokens, request.texts)
        context = context or [self._lm.separator]
        found = self._predicted(context, text, 0)
        return Reply(tokens=tuple(found), tokens_in=len(context) + len(text))

    def _embed(self, request: Request) -> Reply:
        if isinstance(self._lm.spec, bert.BertSpec):
            vectors = bert.embed_sentences(self._lm, request.texts)
        else:
            texts = [self._tokens(text) or [self._lm.separator] for text in request.texts]
            parts = [texts[at : at + _BATCH] for at in range(0, len(texts), _BATCH)]
            vectors = np.concatenate([self._pooled(part) for part in parts])
        return Reply(vectors=tuple(map(tuple, vectors.tolist())))

    def _pooled(self, texts: list[list[int]]) -> np.ndarray:
        given = prompts(self._lm, texts)
        rows = np.arange(given.tokens_BP.shape[1]) < given.length_B[:, None]
        return np.asarray(_vectors(self._lm.forward, self._lm.params, given.tokens_BP, rows))

    def _predicted(self, context: list[int], text: list[int], alternatives: int):
        """(token, its log-probability, those of the alternatives) for each token of the text."""
        given = prompts(self._lm, [[*context, *text]])
        log_TV = np.asarray(_log_probs(self._lm.forward, self._lm.params, given.tokens_BP))[0]
        log_TV = log_TV[len(context) - 1 : len(context) - 1 + len(text)]
        word = lambda token: decode(self._lm.tokenizer, [token])
        tops_TK = np.argsort(-log_TV, axis=1)[:, :alternatives]
        return [
            (
                word(token),
                float(log_V[token]),
                {word(t): float(log_V[t]) for t in top_K[::-1].tolist()},
            )
            for token, log_V, top_K in zip(text, log_TV, tops_TK, strict=True)
        ]

    def _tokens(self, text: str) -> list[int]:
        return self._lm.tokenizer.encode(text, add_special_tokens=False).ids

    def _marks(self) -> bool:
        return self._lm.tokenizer.token_to_id(_START) is not None


def _conversation(request: Request, end: str) -> str:
    """The text of a conversation up to the reply. end: what ends a message; empty for plain lines."""
    if end:
        said = (f"{_START}{role}\n{text}{end}\n" for role, text in request.messages)
        return "".join(said) + f"{_START}assistant\n"
    said = (f"{role.capitalize()}: {text}\n\n" for role, text in request.messages)
    return "".join(said) + "Assistant:"


@functools.partial(jax.jit, static_argnums=0)
def _log_probs(forward, params, tokens_BT):
    return jax.nn.log_softmax(forward(params, tokens_BT)[0].astype(jnp.float32))


@functools.partial(jax.jit, static_argnums=0)
def _vectors(forward, params, tokens_BT, mask_BT):
    return bert.pool(forward(params, tokens_BT)[1]["final"].astype(jnp.float32), mask_BT)
