"""Who is served next, and when those who wait for news are woken."""

from __future__ import annotations

import threading

from tests.helpers import eventually
from tidegate.carry.direct.jobs import Gathered, Jobs


def taken(jobs: Jobs[str, str], count: int) -> list[str]:
    """Take so many jobs, and keep their places."""
    found = [jobs.get() for _ in range(count)]
    return [job for one in found if one is not None for job in one[:1]]


def done(jobs: Jobs[str, str], count: int) -> list[str]:
    """Do so many jobs, one after the other."""
    found = []
    for _ in range(count):
        one = jobs.get()
        assert one is not None
        found.append(one[0])
        jobs.done(large=one[1])
    return found


def test_urgent_ones_go_first_and_equals_in_order() -> None:
    jobs: Jobs[str, str] = Jobs(1)
    for urgency, job in ((5, "a"), (5, "b"), (1, "urgent"), (9, "late")):
        jobs.put(urgency, job)
    assert done(jobs, 4) == ["urgent", "a", "b", "late"]


def test_with_more_places_more_is_done_at_a_time_and_with_fewer_what_was_begun_is_finished_first() -> None:
    jobs: Jobs[str, str] = Jobs(1)
    for job in "abcdef":
        jobs.put(5, job)
    assert taken(jobs, 1) == ["a"]
    jobs.resize(3)
    assert taken(jobs, 2) == ["b", "c"]
    jobs.resize(1)
    later: list[str] = []
    thread = threading.Thread(target=lambda: later.extend(taken(jobs, 1)))
    thread.start()
    jobs.done()
    jobs.done()
    thread.join(0.2)
    assert later == []  # one is still being done, and that is all there may be
    jobs.done()
    thread.join(10)
    assert later == ["d"]


def test_of_more_places_one_is_still_left_for_small_files() -> None:
    jobs: Jobs[str, str] = Jobs(1)
    for number in range(5):
        jobs.put_large(5, f"large {number}")
    jobs.resize(3)
    assert taken(jobs, 2) == ["large 0", "large 1"]
    jobs.put(5, "small")
    assert taken(jobs, 1) == ["small"]


def test_light_jobs_are_not_begun_beyond_fewer_places() -> None:
    jobs: Jobs[str, str] = Jobs(3)
    for job in "abc":
        jobs.put_light(5, job)
    assert [jobs.get_light(), jobs.get_light()] == ["a", "b"]
    jobs.resize(1)
    assert jobs.get_light() is None
    jobs.done()
    assert jobs.get_light() is None
    jobs.done()
    assert jobs.get_light() == "c"


def test_one_place_is_left_for_small_files_however_many_large_ones_wait() -> None:
    jobs: Jobs[str, str] = Jobs(3)
    for number in range(5):
        jobs.put_large(5, f"large {number}")
    assert taken(jobs, 2) == ["large 0", "large 1"]
    jobs.put(5, "small")
    assert taken(jobs, 1) == ["small"]
    jobs.done(large=True)
    assert taken(jobs, 1) == ["large 2"]


def test_a_single_place_serves_both() -> None:
    jobs: Jobs[str, str] = Jobs(1)
    jobs.put_large(5, "large")
    assert done(jobs, 1) == ["large"]


def test_what_was_begun_is_finished_before_another_large_one_is_begun() -> None:
    jobs: Jobs[str, str] = Jobs(9)
    first = jobs.put_large(5, "first")
    jobs.put_large(5, "second")
    assert taken(jobs, 1) == ["first"]
    jobs.put_large(5, "first", first)
    assert taken(jobs, 2) == ["first", "second"]


def test_the_pieces_of_a_large_file_take_turns_with_small_ones() -> None:
    jobs: Jobs[str, str] = Jobs(9)
    number = jobs.put_large(5, "large")
    jobs.put(5, "a")
    assert taken(jobs, 1) == ["large"]
    jobs.put_large(5, "large", number)
    jobs.put(5, "b")
    assert taken(jobs, 3) == ["a", "large", "b"]


def test_an_urgent_large_file_goes_before_small_ones_that_are_not() -> None:
    jobs: Jobs[str, str] = Jobs(9)
    jobs.put(5, "small")
    jobs.put_large(1, "large")
    assert taken(jobs, 2) == ["large", "small"]


def test_light_jobs_take_their_turn_with_all_others() -> None:
    jobs: Jobs[str, str] = Jobs(9)
    jobs.put_light(5, "light a")
    jobs.put(5, "small")
    jobs.put_light(5, "light b")
    jobs.put_light(1, "urgent")
    assert [jobs.get_light(), jobs.get_light(), jobs.get_light()] == ["urgent", "light a", None]
    assert taken(jobs, 1) == ["small"]
    assert jobs.get_light() == "light b"


def test_no_more_is_done_at_a_time_than_was_said() -> None:
    jobs: Jobs[str, str] = Jobs(2)
    for name in "abc":
        jobs.put_light(5, name)
    assert [jobs.get_light() for _ in range(3)] == ["a", "b", None]
    jobs.done()
    assert jobs.get_light() == "c"


def test_who_asked_in_vain_for_light_jobs_is_told_once_when_there_is_one() -> None:
    told: list[bool] = []
    jobs: Jobs[str, str] = Jobs(2, lambda: told.append(True))
    jobs.put_light(5, "a")
    assert not told  # nobody had asked
    assert [jobs.get_light(), jobs.get_light()] == ["a", None]
    jobs.put_light(5, "b")
    jobs.put_light(5, "c")
    assert len(told) == 1


def test_light_jobs_are_lent_with_half_of_the_places_and_who_lends_goes_on_in_the_others() -> None:
    jobs: Jobs[str, str] = Jobs(4)
    for name in "abcdef":
        jobs.put_light(5, name)
    assert jobs.many_light(3, 5)
    held = jobs.lend(0, half=True)
    assert held == 2
    assert jobs.take_light(lambda name: name != "c") == ["a", "b"]
    assert [jobs.get_light() for _ in range(3)] == ["c", "d", None]
    assert jobs.lend(held, half=True) == 2
    jobs.repay(held)
    assert [jobs.get_light() for _ in range(3)] == ["e", "f", None]


def test_light_jobs_are_lent_with_all_places_or_half_of_them_while_others_wait() -> None:
    woken: list[bool] = []
    jobs: Jobs[str, str] = Jobs(8, lambda: woken.append(True))
    for name in "abc":
        jobs.put_light(5, name)
    assert jobs.get_light() == "a"
    held = jobs.lend(0, half=False)
    assert held == 7
    jobs.done()
    assert jobs.get_light() is None  # it is for the borrower
    jobs.put_light(5, "d")
    assert woken == []  # and so there is nothing to be had
    held = jobs.lend(held, half=False)
    assert held == 8
    jobs.put(4, "small")
    held = jobs.lend(held, half=False)
    assert held == 4
    assert taken(jobs, 1) == ["small"]
    assert jobs.get_light() == "b"
    jobs.repay(held)


def test_who_borrows_gets_the_next_places_before_anybody_else() -> None:
    woken = threading.Event()
    jobs: Jobs[str, str] = Jobs(4, woken.set)
    for name in "abcdefgh":
        jobs.put_light(5, name)
    assert [jobs.get_light() for _ in range(4)] == list("abcd")
    found: list[int] = []
    borrower = threading.Thread(target=lambda: found.append(jobs.lend(0, half=True)))
    borrower.start()
    eventually(lambda: jobs._owed == 2)
    jobs.done()
    borrower.join(5)
    assert found == [1]
    jobs.done()
    assert jobs.get_light() is None
    assert jobs.lend(1, half=True) == 2
    assert jobs.get_light() is None
    woken.clear()
    jobs.done()
    assert woken.wait(5)
    assert jobs.get_light() == "e"


def test_nothing_is_owed_to_who_has_given_everything_back() -> None:
    jobs: Jobs[str, str] = Jobs(4)
    for name in "abcd":
        jobs.put_light(5, name)
    assert [jobs.get_light() for _ in range(3)] == list("abc")
    held = jobs.lend(0, half=True)
    assert held == 1
    assert jobs.get_light() is None
    jobs.repay(held)
    assert jobs.get_light() == "d"


def test_few_light_jobs_are_not_many() -> None:
    jobs: Jobs[str, str] = Jobs(8)
    jobs.put_light(5, "a")
    assert not jobs.many_light(2, 0.01)


def test_who_waits_is_sent_home() -> None:
    jobs: Jobs[str, str] = Jobs(2)
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
    news.expect(3)
    for number in range(3):
        news.put(number)
    assert gathered(news, limit=2) == [0, 1]
    assert gathered(news) == [2]
    assert news.take(9, 0.01) == []


def test_news_comes_when_there_is_enough_of_it() -> None:
    news: Gathered[int] = Gathered(2, 30)
    for number in range(3):
        news.expect(2)
        news.put(number)
    assert gathered(news) == [0, 1, 2]


def test_news_is_not_held_back_for_long_by_what_is_still_expected() -> None:
    news: Gathered[int] = Gathered(10, 0.01)
    news.expect(2)
    news.put(1)
    assert gathered(news) == [1]


def test_news_of_many_comes_as_one_piece() -> None:
    news: Gathered[int] = Gathered(10, 30)
    news.expect(3)
    news.put_all([1, 2, 3])
    assert gathered(news) == [1, 2, 3]


def test_who_waits_for_news_can_be_woken_without_any() -> None:
    news: Gathered[int] = Gathered(10)
    news.wake()
    assert gathered(news) == []
