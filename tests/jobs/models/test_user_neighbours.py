"""What the users with the most similar taste have played."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.data import bounds
from jobs.data.listens import Listens
from jobs.models import user_neighbours
from jobs.models.user_neighbours import MOST_OF_MEDIAN, NEIGHBOURS, Neighbourhood, bounded


def listens_of(histories: list[list[int]], tracks: int) -> Listens:
    """Listens of the users 10, 20, …, in this order of their tracks."""
    starts = np.cumsum([0, *map(len, histories)])
    item = np.array([track for history in histories for track in history], np.int32)
    ids = np.arange(1, len(histories) + 1) * 10
    return Listens(starts, item, np.zeros(len(item), np.uint32), ids, np.arange(tracks))


def neighbourhood(data: Listens, counted: np.ndarray | None = None) -> Neighbourhood:
    counted = np.ones(data.shape[0], bool) if counted is None else counted
    return Neighbourhood.of(data, counted, bounds.track_counts(data, counted))


def scores(data: Listens, counted: np.ndarray | None = None) -> np.ndarray:
    return neighbourhood(data, counted).scores(data, None).toarray()


HISTORIES = st.lists(st.lists(st.integers(0, 11), min_size=1, max_size=8), min_size=2, max_size=30)


def test_a_user_gets_what_users_of_the_same_taste_play_and_nothing_of_others():
    found = scores(listens_of([[0, 1], [0, 1, 2], [3, 4], [3, 5]], 6))
    assert found[0, 2] > 0
    assert found[0, 3:].tolist() == [0, 0, 0]
    assert found[2, 5] > 0 and found[2, 2] == 0


def test_a_track_that_few_know_makes_users_more_similar_than_one_that_all_know():
    everyone, rare = 0, 1
    found = scores(
        listens_of([[everyone, rare], [everyone, 2], [rare, 3], *[[everyone, 4]] * 5], 5)
    )
    assert found[0, 3] > found[0, 2]


@given(HISTORIES)
def test_scores_are_those_of_the_definition(histories):
    data = listens_of(histories, 12)
    played = data.pairs().toarray()
    listeners = played.sum(axis=0)
    weighted = played * np.log((1 + len(played)) / (1 + listeners))
    profiles = weighted / np.maximum(np.linalg.norm(weighted, axis=1, keepdims=True), 1e-9)
    similar = profiles @ profiles.T
    np.fill_diagonal(similar, 0)
    expected = []
    for row in similar:
        some = np.sort(row[row > 1e-6])[::-1] ** 2
        most = MOST_OF_MEDIAN * some[len(some) // 2] if len(some) else 0
        expected.append(np.minimum(np.where(row > 1e-6, row**2, 0), most) @ played)
    assert scores(data) == pytest.approx(np.array(expected), abs=1e-4)


@given(HISTORIES, st.integers(1, 30))
def test_scores_of_a_user_do_not_depend_on_who_else_is_in_the_block(histories, size):
    data = listens_of(histories, 12)
    near, n = neighbourhood(data), data.shape[0]
    parts = [
        near.scores(data.of_users(np.arange(first, min(first + size, n))), None).toarray()
        for first in range(0, n, size)
    ]
    assert np.array_equal(np.concatenate(parts), near.scores(data, None).toarray())


def test_an_account_that_is_left_out_is_nobodys_neighbour_but_has_neighbours():
    data = listens_of([[0, 1, 2], [0, 1, 3], [0, 1, 4], [5]], 6)
    found = scores(data, np.array([True, True, False, True]))
    assert found[:, 4].tolist() == [0, 0, 0, 0]
    assert found[2, 2] > 0


@given(st.lists(st.floats(0, 1), min_size=NEIGHBOURS, max_size=NEIGHBOURS))
def test_no_neighbour_decides_what_a_user_gets(similarities):
    weights = bounded(np.array([sorted(similarities, reverse=True)], np.float32))[0]
    n = np.count_nonzero(weights)
    assert weights.max() <= MOST_OF_MEDIAN / (MOST_OF_MEDIAN + n // 2) * weights.sum() * 1.001


def test_where_comparing_all_would_cost_too_much_neighbours_come_from_fewer_users(monkeypatch):
    data = listens_of([[user % 7, 7 + user % 5] for user in range(200)], 12)
    monkeypatch.setattr(user_neighbours, "FEWEST_USERS", 20)
    monkeypatch.setattr(user_neighbours, "MULTIPLICATIONS_A_USER", 1)
    plays = data.pairs()
    products = plays @ plays.T  # a multiplication for each track that two users have in common
    sizes = []
    for most in (1 << 40, 6_000, 2_000, 100):
        monkeypatch.setattr(user_neighbours, "MULTIPLICATIONS", most)
        near = neighbourhood(data)
        rows = near.user_ids // 10 - 1
        assert products[rows].sum() <= most
        sizes.append(len(rows))
    assert sizes[0] == 200 and 20 <= sizes[2] < sizes[1] < 200 and sizes[3] == 0
    assert near.scores(data, None).nnz == 0
