"""Item weights by EASE: what a play of one track says for another."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from jobs.contract import tables
from jobs.contract.ids import ties_of
from jobs.models import item_weights
from jobs.models.item_weights import PENALTY, learned_users
from jobs.models.ranked_lists import matrix_of_lists
from tests.support.workspace import lists, rows, run, save_listens


def weights_of(plays: np.ndarray) -> np.ndarray:
    """All kept weights, (tracks, tracks), of plays (users, tracks)."""
    n = plays.shape[1]
    ties = ties_of(np.arange(n))
    blocks = list(item_weights.item_weights(csr_matrix(plays.astype(np.float32)), ties))
    return np.concatenate([matrix_of_lists(*block, n).toarray() for block in blocks])


@given(st.integers(0, 99), st.integers(1, 20), st.integers(1, 8))
def test_weights_are_the_positive_ones_of_the_closed_form(seed, users, tracks):
    plays = np.random.default_rng(seed).random((users, tracks)) < 0.4
    inverse = np.linalg.inv(plays.T.astype(float) @ plays + PENALTY * np.eye(tracks))
    expected = -inverse / np.diag(inverse)
    np.fill_diagonal(expected, 0)
    assert weights_of(plays) == pytest.approx(np.maximum(expected, 0), abs=1e-6)


def test_blocks_and_the_number_of_kept_weights_change_no_weight(monkeypatch):
    plays = np.random.default_rng(0).random((60, 17)) < 0.3
    whole = weights_of(plays)
    monkeypatch.setattr(item_weights, "TRACKS_A_BLOCK", 5)
    assert weights_of(plays) == pytest.approx(whole, abs=1e-7)
    monkeypatch.setattr(item_weights, "WEIGHTS_A_TRACK", 3)
    few = weights_of(plays)
    kept = few > 0
    assert kept.sum(axis=1).max() == 3
    assert few[kept] == pytest.approx(whole[kept], abs=1e-7)
    assert np.where(kept, np.inf, whole).min() >= 0
    for row, of_row in zip(whole, kept, strict=True):
        assert row[of_row].min(initial=np.inf) >= row[~of_row].max() - 1e-7


def test_a_track_that_another_one_explains_gets_less_weight_than_what_is_played_together():
    """1 and 2 come together only through 0, which both are played with."""
    plays = np.array([[1, 1, 0]] * 400 + [[1, 0, 1]] * 400 + [[1, 1, 1]] * 400)
    weights = weights_of(plays)
    assert weights[1, 0] > 10 * weights[1, 2]


def test_users_are_drawn_until_the_work_is_done_and_one_more_redraws_no_one(monkeypatch):
    ids, tracks = np.arange(1000), np.full(1001, 10)
    assert len(learned_users(ids, tracks[:1000])) == 1000
    monkeypatch.setattr(item_weights, "MULTIPLICATIONS", 20_000)
    some, others = learned_users(ids, tracks[:1000]), learned_users(np.arange(1001), tracks)
    assert len(some) == len(others) == 200
    assert len(set(some) - set(others)) <= 1


def test_the_job_lists_for_each_track_those_that_its_listeners_play(tmp_path):
    """Two groups of people with tracks of their own, and a track that only four people know."""
    played = [(u, t, t) for u in range(40) for t in (range(5) if u < 20 else range(5, 10))]
    save_listens(tmp_path, [*played, *((u, 10, 11) for u in range(4))])
    assert run("item_weights", tmp_path) == "40 weights of 10 tracks, from 40 users"
    found = lists(tables.ITEM_WEIGHTS, tmp_path)
    for track in range(10):
        group = set(range(5)) if track < 5 else set(range(5, 10))
        assert set(found[track]) == group - {track}
    assert all(score > 0 for *_, score in rows(tables.ITEM_WEIGHTS, tmp_path))


def test_where_no_track_has_enough_listeners_there_are_no_weights(tmp_path):
    save_listens(tmp_path, [(user, user, 0) for user in range(9)])
    assert run("item_weights", tmp_path) == "0 weights of 0 tracks, from 9 users"
    assert rows(tables.ITEM_WEIGHTS, tmp_path) == []


def test_how_often_an_account_plays_a_track_changes_no_weight(tmp_path):
    played = [(u, t, t) for u in range(30) for t in range(u % 3, 9)]
    save_listens(tmp_path, played)
    run("item_weights", tmp_path)
    expected = rows(tables.ITEM_WEIGHTS, tmp_path)
    save_listens(tmp_path, [*played, *((29, t, 9 + t) for t in range(2, 9) for _ in range(50))])
    run("item_weights", tmp_path)
    assert rows(tables.ITEM_WEIGHTS, tmp_path) == expected


def test_an_account_that_is_left_out_changes_no_weight(tmp_path):
    played = [(u, t, t) for u in range(30) for t in range(u % 3, 9)]
    save_listens(tmp_path, played)
    run("item_weights", tmp_path)
    expected = rows(tables.ITEM_WEIGHTS, tmp_path)
    save_listens(tmp_path, [*played, *((99, t, t) for t in (0, 3, 8))])
    left_out = {"user_id": [99], "reason": ["a test"], "value": [1], "left_out": [True]}
    tables.write(tables.SUSPICIOUS, tmp_path, pa.table(left_out))
    run("item_weights", tmp_path)
    assert rows(tables.ITEM_WEIGHTS, tmp_path) == expected
