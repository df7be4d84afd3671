"""Who is served next, and when those who wait for news are woken."""

from __future__ import annotations

import threading

from tidegate.carry.direct.jobs import Gathered, Jobs


def taken(jobs: Jobs[str], count: int) -> list[str]:
    found = [jobs.get() for _ in range(count)]
    return [job for one in found if one is not None for job in one[:1]]


def test_urgent_ones_go_first_and_equals_in_order() -> None:
    jobs: Jobs[str] = Jobs(1)
    for urgency, job in ((5, "a"), (5, "b"), (1, "urgent"), (9, "late")):
        jobs.put(urgency, job)
    assert taken(jobs, 4) == ["urgent", "a", "b", "late"]


def test_one_worker_is_left_for_small_files_however_many_large_ones_wait() -> None:
    jobs: Jobs[str] = Jobs(3)
    for number in range(5):
        jobs.put_large(5, f"large {number}")
    assert taken(jobs, 2) == ["large 0", "large 1"]
    jobs.put(5, "small")
    assert taken(jobs, 1) == ["small"]
    jobs.done_with_large()
    assert taken(jobs, 1) == ["large 2"]


def test_a_single_worker_serves_both() -> None:
    jobs: Jobs[str] = Jobs(1)
    jobs.put_large(5, "large")
    assert taken(jobs, 1) == ["large"]


def test_what_was_begun_is_finished_before_another_large_one_is_begun() -> None:
    jobs: Jobs[str] = Jobs(9)
    first = jobs.put_large(5, "first")
    jobs.put_large(5, "second")
    assert taken(jobs, 1) == ["first"]
    jobs.put_large(5, "first", first)
    assert taken(jobs, 2) == ["first", "second"]


def test_the_pieces_of_a_large_file_take_turns_with_small_ones() -> None:
    jobs: Jobs[str] = Jobs(9)
    number = jobs.put_large(5, "large")
    jobs.put(5, "a")
    assert taken(jobs, 1) == ["large"]
    jobs.put_large(5, "large", number)
    jobs.put(5, "b")
    assert taken(jobs, 3) == ["a", "large", "b"]


def test_an_urgent_large_file_goes_before_small_ones_that_are_not() -> None:
    jobs: Jobs[str] = Jobs(9)
    jobs.put(5, "small")
    jobs.put_large(1, "large")
    assert taken(jobs, 2) == ["large", "small"]


def test_who_waits_is_sent_home() -> None:
    jobs: Jobs[str] = Jobs(2)
    found: list[object] = []
    waiting = threading.Thread(target=lambda: found.append(jobs.get()))
    waiting.start()
    jobs.close()
    waiting.join(5)
    assert found == [None]


def gathered(news: Gathered[int], limit: int = 9) -> list[int] | None:
    """Wait for news, but not longer than 5 seconds; None: there was none until then."""
    found: list[list[int]] = []
    waiting = threading.Thread(target=lambda: found.append(news.take(limit, 30)), daemon=True)
    waiting.start()
    waiting.join(5)
    return found[0] if found else None


def test_news_comes_together_as_soon_as_no_more_is_expected() -> None:
    news: Gathered[int] = Gathered(10, 30)
    for _ in range(3):
        news.expect()
    for number in range(3):
        news.put(number)
    assert gathered(news, limit=2) == [0, 1]
    assert gathered(news) == [2]
    assert news.take(9, 0.01) == []


def test_news_comes_when_there_is_enough_of_it() -> None:
    news: Gathered[int] = Gathered(2, 30)
    for number in range(3):
        news.expect()
        news.expect()
        news.put(number)
    assert gathered(news) == [0, 1, 2]


def test_news_is_not_held_back_for_long_by_what_is_still_expected() -> None:
    news: Gathered[int] = Gathered(10, 0.01)
    news.expect()
    news.expect()
    news.put(1)
    assert gathered(news) == [1]


def test_who_waits_for_news_can_be_woken_without_any() -> None:
    news: Gathered[int] = Gathered(10)
    news.wake()
    assert gathered(news) == []
