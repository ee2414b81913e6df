"""When something is tried again."""

import pytest

from neighbour.again import Schedule


def times(schedule: "Schedule[str]", key: str, count: int, end: int = 10_000_000) -> list[int]:
    """When an attempt is due that fails each time, in seconds."""
    now, found = 0, []
    schedule.failed(key, now)
    while len(found) < count and now < end:
        now += 1000
        if schedule.due(now, 10):
            found.append(now // 1000)
            schedule.failed(key, now)
    return found


def test_waits() -> None:
    assert times(Schedule((1, 2, 5), is_endless=True), "a", 5) == [1, 3, 8, 13, 18]
    given_up: Schedule[str] = Schedule((1, 2, 5), is_endless=False)
    assert times(given_up, "a", 5) == [1, 3, 8]
    assert len(given_up) == 0
    assert given_up._tried == {}


def test_news_count_at_once_and_begin_anew() -> None:
    schedule: Schedule[str] = Schedule((10, 100), is_endless=True)
    schedule.failed("a", 0)
    schedule.failed("a", 10_000)
    schedule.soon("a", 20_000)
    assert schedule.due(19_999, 9) == []
    assert schedule.due(20_000, 9) == ["a"]
    assert schedule.due(1_000_000, 9) == [], "it is told once, whatever it had before"
    schedule.failed("a", 20_000)
    assert schedule.due(30_000, 9) == ["a"]
    schedule.soon("b", 5)
    schedule.soon("b", 7)
    assert schedule.due(5, 9) == ["b"], "the sooner one counts"


def test_the_oldest_first_and_no_more_than_asked_for() -> None:
    schedule: Schedule[int] = Schedule((1,), is_endless=True)
    for key in (3, 1, 2):
        schedule.soon(key, 100 - key)
    assert schedule.due(1000, 0) == schedule.due(1000, -1) == []
    assert [schedule.due(1000, 2), schedule.due(1000, 2), schedule.due(1000, 2)] == [[3, 2], [1], []]


@pytest.mark.parametrize("endless", [True, False])
def test_what_is_forgotten(endless: bool) -> None:
    schedule: Schedule[str] = Schedule((1, 2), is_endless=endless)
    schedule.failed("a", 0)
    schedule.forget("a")
    schedule.forget("b")
    assert schedule.due(10_000, 9) == []
    assert len(schedule) == 0
    schedule.failed("a", 0)
    assert schedule.due(1000, 9) == ["a"], "it begins with the first wait again"
