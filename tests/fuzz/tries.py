"""How often a fuzzer tries: a number of times, the same on every machine, and on while DICTLEARN_FUZZ_SECONDS
last where that is set."""

import os
import random
import time
from collections.abc import Iterator

SECONDS = float(os.environ.get("DICTLEARN_FUZZ_SECONDS", "0"))


def tries(seed: int, n: int, share: float) -> Iterator[random.Random]:
    """Chances, n of them, and more until its share of the seconds is over."""
    chance, end, tried = random.Random(seed), time.monotonic() + share * SECONDS, 0
    while tried < n or time.monotonic() < end:
        yield chance
        tried += 1
