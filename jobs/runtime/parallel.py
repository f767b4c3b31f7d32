"""Work on blocks of rows in several threads, in order, with a progress bar.

The number of threads belongs to the process: a job's main sets it once, from what its memory allows
(see memory.check), and everything that the job calls reads it here. Results never depend on it.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from jobs.runtime.progress import progress_bar

S = TypeVar("S")
T = TypeVar("T")
_threads = os.cpu_count() or 1
_share = threading.local()  # of the threads, in those that `each` starts


def set_threads(n: int) -> None:
    """Let this process work with n threads from now on."""
    global _threads
    _threads = n


def threads() -> int:
    """Return the number of threads that the caller may use: all of the process, or its share."""
    n: int = getattr(_share, "threads", _threads)
    return n


def each(work: Callable[[S], T], items: Sequence[S], n_threads: int | None = None) -> list[T]:
    """Return work(item) for every item, computed side by side by several threads.

    The threads are shared out: of four threads, each of two items has two for what it does inside.
    """
    n = min(len(items), n_threads or threads())
    if n < 2:
        return [work(item) for item in items]
    share = threads() // n or 1

    def with_share(item: S) -> T:
        _share.threads = share
        return work(item)

    with ThreadPoolExecutor(n) as pool:
        return list(pool.map(with_share, items))


def in_blocks(
    work: Callable[[int, int], T],
    n: int,
    size: int,
    name: str | None,
    n_threads: int | None = None,
) -> Iterator[T]:
    """Yield work(first, last) for every block of n rows, in order, computed by several threads.

    name is that of the progress, None for no progress. At most one block more than there are
    threads is in memory or being computed at a time.
    """
    ranges = iter([(first, min(first + size, n)) for first in range(0, n, size)])
    n_threads = n_threads or threads()
    with (
        ThreadPoolExecutor(n_threads) as pool,
        progress_bar(total=n, desc=name, unit_scale=True, disable=not name) as progress,
    ):
        running = deque(
            (last - first, pool.submit(work, first, last))
            for first, last in islice(ranges, n_threads + 1)
        )
        while running:
            rows, task = running.popleft()
            yield task.result()
            progress.update(rows)
            running.extend(
                (last - first, pool.submit(work, first, last)) for first, last in islice(ranges, 1)
            )
