"""Convert ids in the jobs' files to positions among the known ids."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jobs.contract import tables
from jobs.contract.ids import MISSING, find
from jobs.contract.storage import JobError

SPARSEST, MOST_SPAN = 2048, 1 << 28  # largest table of an Encoder: entries an id, and in all
ENTRIES_A_SEARCH = 64  # entries of a table that are filled in the time of one binary search


@dataclass(frozen=True)
class Encoder:
    """Finds the positions of ids among the known ones, by a table or by binary search."""

    known: np.ndarray  # (n,) ascending
    table: np.ndarray | None  # int32 positions of all numbers from known[0] to known[-1]

    @classmethod
    def of(cls, known: np.ndarray, look_ups: int | None = None) -> "Encoder":
        """Make the table, which is ten times as fast as a search, unless it would be too sparse.

        It isn't made for so few look-ups (if their number is given) that filling it takes longer.
        """
        span = int(known[-1]) - int(known[0]) + 1 if len(known) else 0
        if not 0 < span <= min(SPARSEST * len(known), MOST_SPAN):
            return cls(known, None)
        if look_ups is not None and look_ups * ENTRIES_A_SEARCH < span:
            return cls(known, None)
        table = np.full(span, MISSING, np.int32)
        table[known - known[0]] = np.arange(len(known), dtype=np.int32)
        return cls(known, table)

    def positions(self, ids: np.ndarray) -> np.ndarray:
        """Return the positions (n,) int32 of ids, MISSING for an unknown one."""
        if not len(self.known):
            return np.full(len(ids), MISSING, np.int32)
        first, last = self.known[0], self.known[-1]
        if self.table is None:
            return find(self.known, ids).astype(np.int32)
        if len(ids) and ids.min() >= first and ids.max() <= last:
            positions: np.ndarray = self.table[ids - first]
            return positions
        inside = (ids >= first) & (ids <= last)
        return np.where(inside, self.table[np.where(inside, ids - first, 0)], np.int32(MISSING))


def encode(
    ids: np.ndarray, known: np.ndarray | Encoder, column: str, table: tables.Table, work: Path
) -> np.ndarray:
    """Return the positions of ids in `known` (ascending). Raises JobError if one is not there."""
    encoder = known if isinstance(known, Encoder) else Encoder.of(known, len(ids))
    found = encoder.positions(ids)
    if (found == MISSING).any():
        raise JobError(
            f"{work / table.file} has a {column} that the other files in the folder do not have, "
            f"so they come from different runs: run python -m jobs.prepare and all later jobs again"
        )
    return found
