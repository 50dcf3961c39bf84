"""One process of a slow run: trainer.py CONFIG.json WORKDIR PORT COUNT INDEX. Rests after every step, so that
there is time to stop it; exits with 75 when it was stopped, and says at which step."""

import json
import sys
import time
from pathlib import Path

from dictlearn.cli import distributed
from dictlearn.train import Stopped, train

if __name__ == "__main__":
    config, workdir, port, count, index = sys.argv[1:]
    place = distributed.Place(f"127.0.0.1:{port}", int(count), int(index))
    distributed.start(place, heartbeat=5)
    try:
        train(json.loads(config), Path(workdir), lambda done, total: time.sleep(0.1))
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        sys.exit(distributed.EX_TEMPFAIL)
