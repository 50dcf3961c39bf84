"""A fake client: replies are a function of the request, and every request is counted."""

import re
import threading
from collections import Counter

import numpy as np

from dictlearn.explanations.client import CHAT, EMBED, Reply, Request

TRIGGER = "trigger"


class Fake:
    """A client whose conversations are continued by `say(last message)`."""

    def __init__(self, say, name="fake", at_once=8):
        self.name, self.at_once = name, at_once
        self._say, self._lock, self.asked = say, threading.Lock(), Counter()

    def __call__(self, request: Request) -> Reply:
        with self._lock:
            self.asked[request.key(self.name)] += 1
        if request.kind == EMBED:
            return Reply(vectors=tuple(tuple(self._say(one)) for one in request.texts))
        if request.kind == CHAT:
            text = self._say(request.messages[-1][1])
            return Reply(text, tokens_in=request.characters // 4, tokens_out=len(text))
        return Reply(tokens=tuple(self._say(request.texts)))


def texts(message):
    """The texts of a question, in order."""
    return re.findall(r"^Text \d+: (.*)$", message.rpartition("Texts:\n")[2], re.MULTILINE)


def oracle(message):
    """Knows the trigger: whether it is there and, in texts with marks, whether nothing else is marked."""
    said = []
    for text in texts(message):
        marks = re.findall(r"<<(.*?)>>", text)
        words = " ".join(marks).split()
        said.append(int(set(words) == {TRIGGER} if marks else TRIGGER in text))
    return str(said)


def constant(answer):
    return lambda message: str([answer] * len(texts(message)))


def explainer(message):
    """Describes the word that is marked most often."""
    words = Counter(" ".join(re.findall(r"<<(.*?)>>", message)).split())
    return f"It is plain. [EXPLANATION]: the word {words.most_common(1)[0][0]}"


def rated(truth, said):
    return np.mean([a == b for a, b in zip(truth, said, strict=True)])
