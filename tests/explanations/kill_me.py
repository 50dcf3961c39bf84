"""Asks a server for 40 replies through a journal: `python -m tests.explanations.kill_me URL JOURNAL`."""

import sys

from dictlearn.explanations import Request, answers, clients
from dictlearn.explanations.client import CHAT

ASKED = [Request(CHAT, (("user", f"number {i}"),)) for i in range(40)]

if __name__ == "__main__":
    url, path = sys.argv[1:]
    server = clients.make("openai", url=url, model="judge")
    answers(ASKED, clients.make("journal", path=path, client=server), at_once=4, pause=0.01)
