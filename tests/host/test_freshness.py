"""Old messages, messages from the future, and the same one twice; by a clock that stands still until it is moved."""

import pytest

from neighbour.agent import freshness
from neighbour.agent.freshness import WINDOW_S, Freshness, StaleError
from sipwire.message import Request

START_S = 1_900_000_000


class Clock:
    """Seconds since 1970."""

    def __init__(self, now: float = START_S) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def signed(call_id: bytes = b"1@a.example", cseq: bytes = b"1 INVITE", tag: bytes = b";tag=1") -> Request:
    request = Request("INVITE", b"sip:bob@b.example")
    request.add("From", b"<sip:alice@a.example>" + tag)
    request.add("Call-ID", call_id)
    request.add("CSeq", cseq)
    return request


def test_the_window_is_that_of_wire() -> None:
    assert WINDOW_S == 600


DATES: list[tuple[float, bool]] = [
    # How far the Date is ahead of the clock, seconds.
    (0, True),
    (0.4, True),
    (600, True),
    (-600, True),
    (600.5, False),
    (-600.5, False),
    (601, False),
    (-601, False),
    (86400, False),
    (-86400, False),
    (-START_S - 10000, False),
]


@pytest.mark.parametrize(("ahead_s", "taken"), DATES)
def test_dates(ahead_s: float, taken: bool) -> None:
    clock = Clock()
    fresh = Freshness(clock)
    clock.now += 10000.0
    date_s = int(clock.now + ahead_s)
    clock.now = date_s - ahead_s
    if taken:
        fresh.check_date(date_s)
        return
    with pytest.raises(StaleError, match="10 minutes"):
        fresh.check_date(date_s)


@pytest.mark.parametrize(("started", "date_s", "taken"), [
    (START_S, START_S, True),
    (START_S, START_S - 5, True),
    (START_S, START_S - 6, False),
    (START_S + 0.9, START_S, True),
    (START_S + 0.9, START_S - 5, True),
    (START_S + 0.9, START_S - 6, False),
    (START_S, START_S - 600, False),
])  # fmt: skip
def test_before_our_start(started: float, date_s: int, taken: bool) -> None:
    """What came before a restart is forgotten: it could be here for the second time."""
    fresh = Freshness(Clock(started))
    if taken:
        fresh.check_date(date_s)
        return
    with pytest.raises(StaleError, match="before our start"):
        fresh.check_date(date_s)


def test_twice() -> None:
    fresh = Freshness(Clock())
    fresh.check_first(signed())
    for _ in range(2):
        with pytest.raises(StaleError, match="replayed"):
            fresh.check_first(signed())


@pytest.mark.parametrize(
    "other",
    [
        signed(call_id=b"2@a.example"),
        signed(cseq=b"2 INVITE"),
        signed(cseq=b"1 UPDATE"),
        signed(tag=b";tag=2"),
        signed(tag=b""),
        signed(call_id=b"1@A.example"),
    ],
)
def test_others_are_others(other: Request) -> None:
    fresh = Freshness(Clock())
    fresh.check_first(signed())
    fresh.check_first(other)
    with pytest.raises(StaleError, match="replayed"):
        fresh.check_first(other)


@pytest.mark.parametrize(
    "same",
    [signed(cseq=b"01 INVITE"), signed(cseq=b"1  INVITE"), signed(tag=b";x=y;TAG=1"), signed(tag=b';tag="1"')],
)
def test_the_same_in_other_words(same: Request) -> None:
    fresh = Freshness(Clock())
    fresh.check_first(signed())
    with pytest.raises(StaleError, match="replayed"):
        fresh.check_first(same)


@pytest.mark.parametrize("ahead_s", [-600, -1, 0, 300, 600])
def test_never_twice(ahead_s: int) -> None:
    """Whenever it comes again, it is refused: for its Date, or because it is known."""
    clock = Clock()
    fresh = Freshness(clock)
    clock.now += 10000
    date_s = START_S + 10000 + ahead_s
    fresh.check_date(date_s)
    fresh.check_first(signed())
    for after_s in (*range(0, 1300, 50), 599, 601, 1199, 1199.5, 1200, 1200.5, 1201):
        clock.now = START_S + 10000 + after_s
        with pytest.raises(StaleError):  # noqa: PT012  one of the two
            fresh.check_date(date_s)
            fresh.check_first(signed())


def test_it_is_forgotten() -> None:
    clock = Clock()
    fresh = Freshness(clock)
    for at in range(1000):
        fresh.check_first(signed(b"%d" % at))
        clock.now += 1
    assert len(fresh._seen) == len(fresh._ends) == 1000
    clock.now = START_S + 1200 + 500.5
    fresh.check_first(signed(b"new"))
    assert len(fresh._seen) == len(fresh._ends) == 500
    clock.now += 5000
    fresh.check_first(signed(b"newer"))
    assert len(fresh._seen) == len(fresh._ends) == 1


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freshness, "_MAX_SEEN", 10)
    clock = Clock()
    fresh = Freshness(clock)
    for at in range(10):
        fresh.check_first(signed(b"%d" % at))
    with pytest.raises(StaleError, match="too many"):
        fresh.check_first(signed(b"10"))
    with pytest.raises(StaleError, match="replayed"):
        fresh.check_first(signed(b"0"))
    assert len(fresh._seen) == len(fresh._ends) == 10
    clock.now += 2 * WINDOW_S + 1
    fresh.check_first(signed(b"10"))
