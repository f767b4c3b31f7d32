"""Work by several threads: results come in order, and the threads are shared out."""

import threading

import pytest

from jobs.runtime import parallel


@pytest.fixture
def four_threads(monkeypatch):
    monkeypatch.setattr(parallel, "_threads", 4)


def test_items_are_worked_on_at_the_same_time_and_their_results_come_in_order(four_threads):
    both_there = threading.Barrier(2, timeout=30)

    def work(item: int) -> int:
        both_there.wait()
        return item * item

    assert parallel.each(work, [3, 2]) == [9, 4]


@pytest.mark.parametrize(("items", "share"), [(1, 4), (2, 2), (3, 1), (9, 1)])
def test_the_threads_are_shared_out_and_the_caller_keeps_its_own(four_threads, items, share):
    shares = parallel.each(lambda _: parallel.threads(), range(items))
    assert shares == [share] * items
    assert parallel.threads() == 4


def test_with_one_thread_the_work_is_done_in_the_callers_own(four_threads):
    threads = parallel.each(lambda _: threading.current_thread(), range(3), n_threads=1)
    assert threads == [threading.current_thread()] * 3


def test_an_error_of_one_item_is_the_callers(four_threads):
    with pytest.raises(ZeroDivisionError):
        parallel.each(lambda item: 1 // item, [1, 0])


@pytest.mark.parametrize("n_threads", [1, 3])
def test_blocks_cover_all_rows_in_order(n_threads):
    blocks = parallel.in_blocks(lambda first, last: (first, last), 10, 4, "test", n_threads)
    assert list(blocks) == [(0, 4), (4, 8), (8, 10)]
