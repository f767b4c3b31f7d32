"""Work on blocks of rows in several threads, in order, with a progress bar.

The number of threads belongs to the process: a job's main sets it once, from what its memory allows
(see memory.check), and everything that the job calls reads it here. Results never depend on it.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from jobs.runtime.progress import progress_bar

T = TypeVar("T")
_threads = os.cpu_count() or 1


def set_threads(n: int) -> None:
    """Let this process work with n threads from now on."""
    global _threads
    _threads = n


def threads() -> int:
    """Return the number of threads that this process may use."""
    return _threads


def in_blocks(
    work: Callable[[int, int], T], n: int, size: int, name: str, n_threads: int | None = None
) -> Iterator[T]:
    """Yield work(first, last) for every block of n rows, in order, computed by several threads.

    At most one block more than there are threads is in memory or being computed at a time.
    """
    ranges = iter([(first, min(first + size, n)) for first in range(0, n, size)])
    n_threads = n_threads or threads()
    with (
        ThreadPoolExecutor(n_threads) as pool,
        progress_bar(total=n, desc=name, unit_scale=True) as progress,
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
