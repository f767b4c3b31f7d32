"""Make arrays with a value for each row: in memory, or in files if there is too little of it.

The operating system reads and writes the pages of these files as they are needed, and memory only
holds some of them at a time. So an array of a file may be larger than the memory, but what uses it
should go through it from its begin to its end.
"""

import mmap
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from jobs.contract.storage import JobError

BLOCK = 1 << 24  # rows looked at at a time


@dataclass(frozen=True)
class Allocator:
    """Makes arrays in memory, or in files of a folder if there is one.

    The files have no names, so the system removes them as soon as the arrays or the process end.
    """

    folder: Path | None = None

    def empty(self, n: int, dtype: DTypeLike) -> np.ndarray:
        """Return an array (n,) whose values are not set yet.

        Raises JobError if the folder can't take it: a write into a mapped file could not fail later
        without ending the process.
        """
        n_bytes = n * np.dtype(dtype).itemsize
        if self.folder is None or not n_bytes:
            return np.empty(n, dtype)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder) as file:
                os.posix_fallocate(file.fileno(), 0, n_bytes)
                return np.frombuffer(mmap.mmap(file.fileno(), n_bytes), dtype)
        except OSError as error:
            raise JobError(
                f"{self.folder} can't take a temporary file of {n_bytes / 1e9:.1f} GB "
                f"({error.strerror}): free disk space, pass another --work, or run it with more "
                "memory, so that no such files are needed"
            ) from None

    def resized(self, column: np.ndarray, n: int) -> np.ndarray:
        """Return an array (n,) with the values of another, which may not be used any more."""
        if self.folder is None:
            column.resize(n, refcheck=False)  # in place, so that there is no second copy
            return column
        return column[:n] if n <= len(column) else self._copied(column, n, column.dtype)

    def converted(self, column: np.ndarray, dtype: DTypeLike) -> np.ndarray:
        """Return the values of an array (n,) as another type."""
        return self._copied(column, len(column), dtype)

    def _copied(self, column: np.ndarray, n: int, dtype: DTypeLike) -> np.ndarray:
        result = self.empty(n, dtype)
        for rows in blocks(len(column)):
            result[rows] = column[rows]
        return result


def blocks(n: int, size: int = BLOCK) -> Iterator[slice]:
    """Yield n rows in blocks."""
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))
