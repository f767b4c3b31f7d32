"""The arithmetic of ragged lists gives what plain lists give."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from jobs.contract import ragged

# The flat items of these rows are 0, 1, 2, ..., so an item is also its own place.
LENGTHS = st.lists(st.integers(0, 5), max_size=8)


def rows_of(lengths: list[int]) -> list[list[int]]:
    items = iter(range(sum(lengths)))
    return [[next(items) for _ in range(length)] for length in lengths]


def flat(rows: list[list[int]]) -> list[int]:
    return [item for row in rows for item in row]


@given(LENGTHS)
def test_offsets_bound_each_row(lengths: list[int]) -> None:
    offsets = ragged.offsets_of(np.array(lengths, np.int32))
    rows = rows_of(lengths)
    assert offsets.dtype == np.int64
    assert [[*range(*bounds)] for bounds in pairwise(offsets)] == rows


@given(LENGTHS)
def test_each_entry_knows_its_row_and_its_place_there(lengths: list[int]) -> None:
    pairs = [(row, place) for row, n in enumerate(lengths) for place in range(n)]
    counts = np.array(lengths, np.int64)
    row, place = ragged.row_of_each(counts), ragged.place_in_row(counts)
    assert [*zip(row.tolist(), place.tolist(), strict=True)] == pairs


@given(LENGTHS)
def test_offsets_come_back_from_the_rows_of_the_entries(lengths: list[int]) -> None:
    counts = np.array(lengths, np.int64)
    offsets = ragged.offsets_of_sorted(ragged.row_of_each(counts), len(counts))
    assert offsets.tolist() == ragged.offsets_of(counts).tolist()


@given(LENGTHS, st.data())
def test_entries_of_any_rows_are_taken_in_the_order_asked_for(lengths: list[int], data) -> None:
    rows = rows_of(lengths)
    wanted = data.draw(st.lists(st.integers(0, max(len(rows) - 1, 0)), max_size=8 * bool(rows)))
    offsets = ragged.offsets_of(np.array(lengths, np.int64))
    index = np.array(wanted, np.int64)

    whole, counts = ragged.entries_of(offsets, index)
    assert whole.tolist() == flat([rows[row] for row in wanted])
    assert counts.tolist() == [lengths[row] for row in wanted]


@given(LENGTHS, st.integers(1, 6))
def test_the_last_entries_are_the_ends_of_the_rows(lengths: list[int], n: int) -> None:
    places, counts = ragged.last_entries(ragged.offsets_of(np.array(lengths, np.int64)), n)
    assert places.tolist() == flat([row[-n:] for row in rows_of(lengths)])
    assert counts.tolist() == [min(length, n) for length in lengths]


@given(st.lists(st.tuples(st.integers(-100, 100), st.integers(0, 5)), max_size=8))
def test_runs_count_up_from_their_starts(pairs: list[tuple[int, int]]) -> None:
    starts, lengths = np.array(pairs, np.int64).reshape(-1, 2).T
    expected = [start + i for start, n in pairs for i in range(n)]
    assert ragged.runs(starts, lengths).tolist() == expected
