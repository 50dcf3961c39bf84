"""The client of OpenAI's interface, against a server that is busy, hangs up and dies: every request has one
reply, and is worked for once."""

import email.utils
import json
import re
import signal
import subprocess
import sys
import time

import pytest

from dictlearn.explanations import Busy, Reply, Request, answers, clients
from dictlearn.explanations.client import CHAT, EMBED, TEXT
from tests.dropin import ROOT
from tests.explanations import kill_me
from tests.explanations.fake import Fake
from tests.explanations.server import Server

ASKED = [Request(CHAT, (("user", f"{i}"),)) for i in range(40)]


def client_of(server, **settings):
    return clients.make("openai", url=server.url, model="judge", **settings)


def test_a_conversation_is_sent_and_read_whole(monkeypatch):
    monkeypatch.setenv("MY_KEY", "secret")
    tokens = (("1", -0.1, {"1": -0.1, "0": -2.0}),)
    judge = lambda request: Reply(request.messages[-1][1].upper(), tokens, (), 7, 3)
    request = Request(CHAT, (("system", "s"), ("user", "é")), (), 9, 0.5, 3, alternatives=2)
    with Server(judge) as server:
        assert client_of(server, key="MY_KEY")(request) == Reply("É", tokens, (), 7, 3)
    assert server.headers[0]["Authorization"] == "Bearer secret"
    assert server.headers[0]["Idempotency-Key"] == request.key("judge")
    (body,) = server.bodies
    assert body["messages"][0] == {"role": "system", "content": "s"}
    assert [body[key] for key in ("model", "max_tokens", "temperature", "seed")] == [
        "judge",
        9,
        0.5,
        3,
    ]
    assert "secret" not in json.dumps(body)


def test_vectors_and_the_probabilities_of_a_text_are_read():
    pieces = (("a ", -1.0, {}), ("text", -2.0, {}), (" goes", -3.0, {}))
    judge = lambda r: Reply(tokens=pieces) if r.kind == TEXT else Reply(vectors=((1.0,), (2.0,)))
    with Server(judge) as server:
        client = client_of(server)
        assert client(Request(TEXT, texts=("a ", "text goes"))).tokens == pieces[1:]
        assert client(Request(EMBED, texts=("x", "y"))).vectors == ((1.0,), (2.0,))


@pytest.mark.parametrize("ahead", [0, 1])
def test_a_server_that_gives_the_probabilities_of_the_next_token_is_refused(ahead):
    def judge(request):
        words = re.findall(" [a-z]+", "".join(request.texts))
        tops = [{word: -0.1} for word in [*words, " end"][ahead:]]
        return Reply(tokens=tuple(zip(words, [-1.0] * len(words), tops, strict=False)))

    with Server(judge) as server:
        client = client_of(server)
        for text in (" once", " twice"):
            if ahead:
                with pytest.raises(ValueError, match="log-probability of the next"):
                    client(Request(TEXT, texts=("", text)))
            else:
                client(Request(TEXT, texts=("", text)))
    assert server.worked.total() == (1 if ahead else 3)


MOODS = {
    "limits": lambda n, tries: (429, {"Retry-After": "0.05"}) if tries < 3 and n % 3 == 0 else "ok",
    "dates": lambda n, tries: (
        (429, {"Retry-After": email.utils.formatdate(usegmt=True)}) if n < 5 else "ok"
    ),
    "errors": lambda n, tries: (503, {}) if tries == 1 else "ok",
    "lost": lambda n, tries: ("hang up", "cut", "ok")[tries - 1],
}


@pytest.mark.parametrize("mood", MOODS)
def test_every_request_has_one_reply_and_is_worked_for_once(mood):
    with Server(Fake(str.upper), MOODS[mood]) as server:
        found = answers(ASKED, client_of(server), pause=1e-3)
    assert [one.text for one in found] == [f"{i}" for i in range(40)]
    assert set(server.worked.values()) == {1}
    assert server.posts.total() > len(server.worked) == 40


def test_a_request_that_is_refused_is_not_sent_again():
    with (
        Server(Fake(str), lambda n, tries: (401, {})) as server,
        pytest.raises(ValueError, match=r"401.*come back"),
    ):
        answers(ASKED[:1], client_of(server))
    assert server.posts.total() == 1


def test_a_server_that_is_not_there_is_busy_and_other_answers_are_no_replies():
    with pytest.raises(Busy, match="did not reply"):
        clients.make("openai", url="http://127.0.0.1:9/v1", model="judge")(ASKED[0])
    with (
        Server(lambda request: Reply(vectors=((1.0,),))) as server,
        pytest.raises(ValueError, match="another form"),
    ):
        client_of(server)(Request(EMBED, texts=("x", "y")))
    with pytest.raises(ValueError, match="needs a model"):
        clients.make("openai")
    with pytest.raises(ValueError, match="http"):
        clients.make("openai", url="localhost", model="judge")


def test_a_slow_server_is_asked_again():
    with Server(Fake(str), seconds=0.3) as server, pytest.raises(Busy, match="timed out"):
        client_of(server, timeout=0.05)(ASKED[0])


def test_no_request_is_lost_or_paid_twice_when_both_sides_are_killed(tmp_path):
    """The process that asks is killed; then the server dies and comes back at the same address."""
    path, limits = tmp_path / "journal.jsonl", MOODS["limits"]
    server = Server(Fake(str.upper), limits, seconds=0.01)
    command = [sys.executable, "-m", kill_me.__name__]
    asking = lambda: subprocess.Popen([*command, server.url, str(path)], cwd=ROOT)
    with server:
        process = asking()
        while server.worked.total() < 15:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        kept = {json.loads(line)["key"] for line in path.read_text().split("\n")[:-1]}
        before = {key: server.posts[key] for key in kept}
        assert 11 <= len(kept) <= server.worked.total() < 30
        process = asking()
        while server.worked.total() < 30:
            time.sleep(0.005)
    time.sleep(0.05)
    with server:
        assert process.wait(60) == 0
    assert set(server.worked) == {one.key("judge") for one in kill_me.ASKED}
    assert set(server.worked.values()) == {1}
    assert before == {key: server.posts[key] for key in kept}
    replay = clients.make("journal", path=path, model="judge")
    said = [one.text for one in answers(kill_me.ASKED, replay)]
    assert said == [f"NUMBER {i}" for i in range(40)]
    assert len(path.read_text().splitlines()) == 40
