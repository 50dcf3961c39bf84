"""Requests are sent once, so many at a time, again where the client is busy; a journal keeps every reply."""

import threading
import time

import pytest

from dictlearn.explanations import Busy, Reply, Request, answers, clients, cost
from dictlearn.explanations.client import CHAT
from dictlearn.explanations.work import send
from tests.explanations.fake import Fake

ASKED = [Request(CHAT, (("user", f"{i % 30}"),), max_tokens=10) for i in range(60)]


def test_equal_requests_are_sent_once_and_replies_are_in_order():
    client, seen = Fake(str.upper), []
    found = answers(ASKED, client, progress=lambda *at: seen.append(at))
    assert [one.text for one in found] == [request.messages[0][1] for request in ASKED]
    assert set(client.asked.values()) == {1}
    assert seen[-1] == (30, 30)


@pytest.mark.parametrize(("ours", "theirs"), [(3, 8), (8, 3)])
def test_no_more_are_in_flight_than_both_sides_allow(ours, theirs):
    flying, most, lock = 0, 0, threading.Lock()

    def say(message):
        nonlocal flying, most
        with lock:
            flying += 1
            most = max(most, flying)
        time.sleep(0.005)
        with lock:
            flying -= 1
        return message

    answers(ASKED, Fake(say, at_once=theirs), at_once=ours)
    assert most == 3


class Flaky(Fake):
    """Busy at the first attempts of every request."""

    def __init__(self, times, after=0.0):
        super().__init__(str)
        self.times, self.after = times, after

    def __call__(self, request):
        reply = super().__call__(request)
        if self.asked[request.key(self.name)] <= self.times:
            raise Busy("too many.", self.after)
        return reply


def test_a_busy_client_is_tried_again_as_often_as_is_said():
    client = Flaky(5)
    assert len(answers(ASKED, client, pause=1e-4)) == 60
    assert set(client.asked.values()) == {6}
    with pytest.raises(ConnectionError, match=r"too many.*the same command continues"):
        answers(ASKED[:1], Flaky(6), pause=1e-4)


@pytest.mark.parametrize(("after", "given_up"), [(1e-4, False), (0.0, True)])
def test_a_request_that_is_put_off_while_others_are_answered_is_not_given_up(after, given_up):
    """Of twelve requests the first is refused ten times, each time after one more of the others is answered."""
    turn, tries = threading.Semaphore(0), 0

    def client(request):
        nonlocal tries
        if request == ASKED[0] and tries < 10:
            tries += 1
            turn.acquire(timeout=5)
            time.sleep(0.02)  # Until the reply to the other is counted.
            raise Busy("later.", after)
        if request != ASKED[0]:
            time.sleep(0.03)
            turn.release()
        return Reply("yes")

    client.name, client.at_once = "limited", 2
    ask = lambda: answers(ASKED[:12], client, pause=1e-4)
    if given_up:
        with pytest.raises(ConnectionError, match="Tried 6 times"):
            ask()
    else:
        assert [one.text for one in ask()] == ["yes"] * 12
        assert tries == 10


def test_nothing_is_sent_before_the_pause_that_a_server_asks_for():
    started = time.monotonic()
    answers(ASKED[:1], Flaky(1, after=0.3), pause=1e-4)
    assert time.monotonic() - started >= 0.3


def test_a_request_that_fails_for_good_ends_the_others(tmp_path):
    def say(message):
        if message == "3":
            raise ValueError("not this one")
        time.sleep(0.01)
        return message

    client = Fake(say, at_once=2)
    kept = clients.make("journal", path=tmp_path / "j.jsonl", client=client)
    with pytest.raises(ValueError, match="not this one"):
        answers(ASKED, kept)
    replied = client.asked.total() - 1
    assert replied < 10
    assert len((tmp_path / "j.jsonl").read_text().splitlines()) == replied


def test_a_journal_pays_once_also_after_a_torn_line(tmp_path):
    path, client = tmp_path / "j.jsonl", Fake(str.upper)
    kept = clients.make("journal", path=path, client=client)
    first = answers(ASKED, kept)
    raw = path.read_bytes()
    path.write_bytes(raw[:-5])
    again = clients.make("journal", path=path, client=client)
    assert cost(ASKED, again, again.holds)[:2] == (30, 29)
    assert answers(ASKED, again) == first
    assert client.asked.total() == 31
    assert sorted(path.read_bytes().splitlines()) == sorted(raw.splitlines())
    replay = clients.make("journal", path=path, model=client.name)
    assert answers(ASKED, replay) == first
    with pytest.raises(ValueError, match="holds no reply"):
        replay(Request(CHAT, (("user", "new"),)))
    assert not clients.make("journal", path=path, model="another").holds(ASKED[0])


def test_a_damaged_line_is_refused_by_its_number(tmp_path):
    path = tmp_path / "j.jsonl"
    answers(ASKED, clients.make("journal", path=path, client=Fake(str)))
    lines = path.read_text().splitlines()
    lines[4] = lines[4][:-1]
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match="line 5"):
        clients.make("journal", path=path)


def test_a_reply_survives_its_line(tmp_path):
    reply = Reply("é\n", (("a", -0.5, {"b": -1.0}),), ((1.0, 2.0),), 3, 4)
    client = Fake(str)
    client.__class__ = type("Given", (Fake,), {"__call__": lambda self, request: reply})
    clients.make("journal", path=tmp_path / "j", client=client)(ASKED[0])
    assert clients.make("journal", path=tmp_path / "j", model="fake")(ASKED[0]) == reply


def test_the_cost_is_known_before():
    found = cost(ASKED, Fake(str), lambda request: request.messages[0][1] == "3")
    assert found == (30, 1, 29, 290)
    assert found.price((1e6, 1e5)) == pytest.approx(58)


def test_the_cost_is_said_before_and_a_larger_one_than_the_bound_is_not_sent(tmp_path, caplog):
    client = Fake(str)
    kept = clients.make("journal", path=tmp_path / "j", client=client)
    with pytest.raises(ValueError, match=r"30 tokens in.*300 out.*most_tokens=329"):
        send(ASKED, kept, name="score", most_tokens=329)
    assert not client.asked
    with caplog.at_level("INFO", "dictlearn.explanations"):
        send(ASKED, kept, name="score", most_tokens=330, price=(1e3, 1e4))
        send(ASKED, kept, name="score", most_tokens=1)
    before, after = caplog.messages
    assert before.startswith("score: 30 requests to fake, 0 kept; about 30 tokens in")
    assert before.endswith("at most 3.03 at your price")
    assert after.startswith("score: 30 requests to fake, 30 kept; about 0 tokens in")


def test_an_unknown_client_is_answered_with_those_there_are():
    with pytest.raises(ValueError, match=r"'oracle'.*journal.*openai"):
        clients.make("oracle")
    with pytest.raises(ValueError, match=r"'size'.*url"):
        clients.make("openai", size=3)
