"""Work on blocks of rows in several threads, in order, with a progress bar."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from tqdm import tqdm

from jobs.runtime import memory

T = TypeVar("T")


def in_blocks(
    work: Callable[[int, int], T], n: int, size: int, name: str, threads: int | None = None
) -> Iterator[T]:
    """Yield work(first, last) for every block of n rows, in order, computed by several threads."""
    ranges = iter([(first, min(first + size, n)) for first in range(0, n, size)])
    threads = threads or memory.threads
    with (
        ThreadPoolExecutor(threads) as pool,
        tqdm(total=n, desc=name, unit_scale=True, leave=False, disable=None) as progress,
    ):
        running = deque(
            (last - first, pool.submit(work, first, last))
            for first, last in islice(ranges, threads + 1)
        )
        while running:
            rows, task = running.popleft()
            yield task.result()
            progress.update(rows)
            running.extend(
                (last - first, pool.submit(work, first, last)) for first, last in islice(ranges, 1)
            )
