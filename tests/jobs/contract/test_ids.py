"""Ids are found where they stand among the known ones, and unknown ids are found nowhere."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from jobs.contract.ids import MISSING, find, ties_of
from jobs.contract.names import MAX_ID
from jobs.data.ids import Encoder
from tests.support.ties import by_tie

IDS = st.one_of(st.integers(0, 20), st.integers(MAX_ID - 5, MAX_ID))


@given(st.sets(IDS), st.lists(IDS))
def test_ids_are_found_at_their_places(known: set[int], ids: list[int]) -> None:
    ordered = sorted(known)
    expected = [ordered.index(i) if i in known else MISSING for i in ids]
    array = np.array(ordered, np.int64)
    assert find(array, np.array(ids, np.int64)).tolist() == expected
    assert Encoder.of(array).positions(np.array(ids, np.int64)).tolist() == expected


def test_looking_up_changes_neither_array() -> None:
    known, ids = np.array([3, 5]), np.array([9, 3])
    find(known, ids)
    assert (known.tolist(), ids.tolist()) == ([3, 5], [9, 3])


@given(st.sets(IDS))
def test_ties_are_in_the_order_of_a_fixed_hash_and_nothing_stays_nothing(known: set[int]) -> None:
    ids = sorted(known)
    ties = ties_of(np.array(ids, np.int64))
    assert [ids[i] for i in ties.at[:-1].tolist()] == by_tie(known)
    assert ties.at[ties.places].tolist() == [*range(len(ids)), MISSING]
    assert ties.at[MISSING] == ties.places[MISSING] == MISSING
