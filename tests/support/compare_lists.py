"""Compare the lists of two work folders: python -m tests.support.compare_lists WORK OTHER

Prints, for each file of ranked lists, how much two runs on the same input differ, for instance on
two processors. The floating-point sums of two processors differ in their last bits, which can
exchange tracks of nearly equal scores.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jobs.contract import tables
from jobs.contract.tables import Table

COMPARED = (tables.RECOMMENDATIONS, tables.PERSONAL_ALS, tables.SIMILAR, tables.NEXT_PLAYED)
FIRST = 10


@dataclass(frozen=True)
class Difference:
    """How much the lists of one file differ; shares and overlaps are from 0 to 1.

    Rows are compared at the same key and rank, in the file that has more of them. Overlap is the
    share of the first 10 (of all) items that both lists of a key have, in any order; a key that
    only one file has counts as 0.
    """

    rows: int
    equal_rows: float  # with the same item
    equal_lists: float  # with the same items in the same order
    overlap_of_first: float
    overlap: float
    largest_score_difference: float  # of equal rows


def lists(table: Table, work: Path) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Return the items and scores of each key, best first."""
    columns = tables.read(table, work)
    key, item, _, score = (columns[name].to_numpy() for name in table.schema.names)
    keys, starts = np.unique(key, return_index=True)
    parts = zip(np.split(item, starts[1:]), np.split(score, starts[1:]), strict=True)
    return dict(zip(keys.tolist(), parts, strict=True))


def compare(table: Table, work: Path, other: Path) -> Difference:
    """Compare one file of two work folders."""
    ours, theirs = lists(table, work), lists(table, other)
    nothing = np.empty(0, np.int64), np.empty(0, np.float32)
    rows, equal_rows, equal_lists, largest = 0, 0, 0, 0.0
    overlaps = []
    keys = ours.keys() | theirs.keys()
    for key in keys:
        (items, scores), (their_items, their_scores) = (
            ours.get(key, nothing),
            theirs.get(key, nothing),
        )
        both = min(len(items), len(their_items))
        equal = items[:both] == their_items[:both]
        rows += max(len(items), len(their_items))
        equal_rows += np.count_nonzero(equal)
        equal_lists += np.array_equal(items, their_items)
        differences = np.abs(scores[:both] - their_scores[:both])[equal]
        largest = max(largest, float(differences.max(initial=0)))
        overlaps.append([_overlap(items[:n], their_items[:n]) for n in (FIRST, None)])
    first, whole = np.mean(overlaps, axis=0) if overlaps else (1.0, 1.0)
    return Difference(
        rows, equal_rows / max(rows, 1), equal_lists / max(len(keys), 1), first, whole, largest
    )


def _overlap(items: np.ndarray, others: np.ndarray) -> float:
    return len(np.intersect1d(items, others)) / max(len(items), len(others), 1)


def main(argv: Sequence[str]) -> None:
    """Print a table with a line for each file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("other", type=Path)
    args = parser.parse_args(argv)
    print(f"| file | rows | equal rows | equal lists | overlap at {FIRST} | overlap | score |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for table in COMPARED:
        found = compare(table, args.work, args.other)
        shares = (
            f"{share:.4%}"
            for share in (
                found.equal_rows, found.equal_lists, found.overlap_of_first, found.overlap
            )
        )  # fmt: skip
        numbers = " | ".join(shares)
        print(
            f"| {table.file} | {found.rows:,} | {numbers} | {found.largest_score_difference:.1e} |"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
