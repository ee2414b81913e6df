import base64
import time

import pytest

from neighbour import nonces
from neighbour.nonces import FOREIGN, FRESH, STALE, Nonces
from sipwire.replay import ReplayWindow


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_800_000_000_000
        monkeypatch.setattr(Nonces, "_now", lambda _: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_life(clock: Clock) -> None:
    made = Nonces("a.example", 60)
    nonce = made.make(b"phone")
    assert made.check(b"phone", nonce) == FRESH
    clock.now += 60_000
    assert made.check(b"phone", nonce) == FRESH
    clock.now += 1
    assert made.check(b"phone", nonce) == STALE


def test_only_ours(clock: Clock) -> None:
    made = Nonces("a.example", 60)
    nonce = made.make(b"phone")
    assert made.check(b"hop", nonce) == FOREIGN
    assert Nonces("a.example", 60).check(b"phone", nonce) == FOREIGN
    raw = bytearray(base64.urlsafe_b64decode(nonce))
    for i in range(len(raw)):
        raw[i] ^= 1
        assert made.check(b"phone", base64.urlsafe_b64encode(bytes(raw))) == FOREIGN
        raw[i] ^= 1
    for junk in (b"", b"x", b"!" * 32, nonce[:-4], nonce + b"AAAA", b"\xff" * 32):
        assert made.check(b"phone", junk) == FOREIGN


def test_nonces_differ(clock: Clock) -> None:
    made = Nonces("a.example", 60)
    assert len({made.make(b"phone") for _ in range(1000)}) == 1000


def test_spi(clock: Clock) -> None:
    made = Nonces("a.example", 60)
    nonce = made.make(b"hop")
    assert made.spi(nonce) == made.spi(nonce)
    spis = {made.spi(made.make(b"hop")) for _ in range(1000)}
    assert len(spis) > 990
    assert 0 not in spis
    assert max(spis) <= 0xFFFFFFFF


def test_each_count_once(clock: Clock) -> None:
    made = Nonces("a.example", 60)
    nonce, other = made.make(b"phone"), made.make(b"phone")
    assert made.use(nonce, 1)
    assert not made.use(nonce, 1)
    assert made.use(nonce, 5)
    assert made.use(nonce, 3)  # requests overtake each other
    assert not made.use(nonce, 3)
    assert made.use(nonce, 100)
    assert not made.use(nonce, 30)  # too old to tell
    assert made.use(other, 1)


def test_what_is_forgotten_is_not_taken_again(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nonces, "_MAX_USED", 10)
    made = Nonces("a.example", 60)
    first = made.make(b"phone")
    assert made.use(first, 1)
    for _ in range(20):
        clock.now += 1
        assert made.use(made.make(b"phone"), 1)
    assert len(made._used) <= 11
    assert made.check(b"phone", first) == STALE


def test_memory_is_given_back(clock: Clock) -> None:
    made = Nonces("a.example", 60)
    for _ in range(100):
        made.use(made.make(b"phone"), 1)
    clock.now += 62_000
    made.use(made.make(b"phone"), 1)
    assert len(made._used) == 1


def test_no_clock_that_somebody_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    """A computer that learns the date takes no nonce from anybody, and does not make old ones good again."""
    made = Nonces("a.example", 60)
    nonce = made.make(b"phone")
    assert made.use(nonce, 1)
    for leap_s in (-50 * 365 * 86400, 50 * 365 * 86400):
        now = time.time() + leap_s
        monkeypatch.setattr(time, "time", lambda now=now: now)
        assert made.check(b"phone", nonce) == FRESH
        assert not made.use(nonce, 1)
        assert made.check(b"phone", made.make(b"phone")) == FRESH


def test_a_nonce_does_not_tell_how_long_we_have_been_up() -> None:
    began = {
        int.from_bytes(base64.urlsafe_b64decode(Nonces("a.example", 60).make(b"phone"))[:6], "big") for _ in range(9)
    }
    assert max(began) - min(began) > 1_000_000


def test_forgetting_takes_the_same_time_however_many_there_are(clock: Clock) -> None:
    """A table that is searched from its beginning, where what was forgotten has left holes, takes ever longer."""

    def seconds(size: int) -> float:
        made = Nonces("a.example", 60)
        window = ReplayWindow(64, 0)
        for number in range(size):
            made._used[base64.urlsafe_b64encode(number.to_bytes(24, "big"))] = (clock.now, window)
        clock.now += 62_000
        start = time.process_time()
        made.use(made.make(b"phone"), 1)
        return (time.process_time() - start) / size

    few, many = min(seconds(500) for _ in range(9)), min(seconds(40_000) for _ in range(3))
    assert many < 3 * few
