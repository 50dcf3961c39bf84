"""Writes the cache of random codes in a process of its own: process.py CODES PATH INDEX COUNT PORT SECONDS.

It rests SECONDS before every part, so that it can be killed between two."""

import sys
import time

import jax
import numpy as np

from dictlearn import events
from tests.events.conftest import job

if __name__ == "__main__":
    codes, path, index, count, port, seconds = sys.argv[1:]
    if int(count) > 1:
        jax.distributed.initialize(f"127.0.0.1:{port}", int(count), int(index))
    events.write(job(np.load(codes), lambda part: time.sleep(float(seconds))), path)
