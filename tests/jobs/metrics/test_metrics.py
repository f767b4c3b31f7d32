"""jobs.metrics beside trec_eval's own code."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from jobs.contract.top_k import NOTHING
from jobs.metrics import accuracy, beyond_accuracy

ITEMS = 25
THEIR_NAMES = {
    "precision": "P_{}", "recall": "recall_{}", "ndcg": "ndcg_cut_{}", "hit": "success_{}",
    "map": "map_cut_{}",
}  # fmt: skip


item = st.integers(0, ITEMS - 1)


users = st.lists(
    st.tuples(st.lists(item, unique=True, max_size=20), st.sets(item, min_size=1)),
    min_size=1,
    max_size=8,
)


def filled(lists: list[list[int]], width: int) -> np.ndarray:
    """(users, width) items, NOTHING behind them."""
    return np.array([found + [NOTHING] * (width - len(found)) for found in lists], np.int32)


def as_matrix(labels: list[set[int]], dtype=np.float32) -> csr_matrix:
    return csr_matrix([[i in own for i in range(ITEMS)] for own in labels], dtype=dtype)


@settings(max_examples=200, deadline=None)
@given(users, st.sampled_from([1, 3, 5, 10, 20]))
def test_every_metric_of_a_user_equals_that_of_trec_eval(users, k):
    lists, labels = (list(column) for column in zip(*users, strict=True))
    ours = accuracy.per_user(filled(lists, 20), as_matrix(labels), k)
    truth = {str(u): {str(i): 1 for i in own} for u, own in enumerate(labels)}
    run = {
        str(u): {str(i): float(-place) for place, i in enumerate(found)}
        for u, found in enumerate(lists)
        if found
    }
    measures = {name.format(k) for name in THEIR_NAMES.values()}
    pytrec_eval = pytest.importorskip("pytrec_eval", reason="install requirements-dev.txt")
    theirs = pytrec_eval.RelevanceEvaluator(truth, measures).evaluate(run)
    assert set(ours) == set(THEIR_NAMES) == set(accuracy.PER_USER)
    for u in range(len(users)):
        for name, values in ours.items():
            expected = theirs[str(u)][THEIR_NAMES[name].format(k)] if str(u) in theirs else 0
            assert values[u] == pytest.approx(expected, abs=1e-6), name


def test_a_list_worked_by_hand():
    ours = accuracy.per_user(np.array([[7, 1, 8, 2, NOTHING]]), as_matrix([{1, 2, 3}]), 5)
    assert ours["precision"] == pytest.approx(2 / 5)
    assert ours["recall"] == pytest.approx(2 / 3)
    assert ours["hit"] == 1
    assert ours["map"] == pytest.approx((1 / 2 + 2 / 4) / 3)
    best = 1 / np.log2(2) + 1 / np.log2(3) + 1 / np.log2(4)
    assert ours["ndcg"] == pytest.approx((1 / np.log2(3) + 1 / np.log2(5)) / best)


def test_coverage_is_the_share_of_the_played_tracks_in_the_first_k():
    listeners = np.array([5, 1, 1, 3, 2, 1, 1, 1, 0])
    found = np.array([[1, 2, 3], [2, 1, 4], [NOTHING, NOTHING, NOTHING]])
    assert beyond_accuracy.coverage(found, 2, listeners) == 2 / 8
    assert beyond_accuracy.coverage(found, 3, listeners) == 4 / 8
    assert beyond_accuracy.coverage(found[2:], 3, listeners) == 0
    assert beyond_accuracy.coverage(np.arange(9)[None], 9, listeners) == 1  # 8 is not played


def test_novelty_is_the_mean_of_bits_and_a_track_of_nobody_counts_as_of_one():
    listeners = np.array([8, 4, 1, 0])  # of 8 users: 0, 1, 3 and 3 bits
    found = np.array([[0, 1, 2], [3, NOTHING, NOTHING], [NOTHING] * 3])
    ours = beyond_accuracy.novelty(found, 3, listeners, users=8)
    assert ours == pytest.approx([4 / 3, 3, 0])
    ours = beyond_accuracy.novelty(found, 2, listeners, users=8)
    assert ours == pytest.approx([0.5, 3, 0])


def test_popularity_is_the_mean_share_of_the_users_who_heard_a_track():
    listeners = np.array([8, 4, 1, 0])  # of 8 users
    found = np.array([[0, 1, 2], [3, NOTHING, NOTHING], [NOTHING] * 3])
    ours = beyond_accuracy.popularity(found, 3, listeners, users=8)
    assert ours == pytest.approx([13 / 24, 0, 0])
    ours = beyond_accuracy.popularity(found, 2, listeners, users=8)
    assert ours == pytest.approx([12 / 16, 0, 0])


def test_serendipity_counts_hits_that_the_top_list_would_not_have_had():
    labels = as_matrix([{1, 2, 3}, {1}, {1}])
    found = np.array([[1, 2, 9], [1, 5, 6], [NOTHING] * 3])
    top = np.array([[7, 1, 2], [7, 8, 1], [7, 8, 1]])
    assert beyond_accuracy.serendipity(found, top, labels, 3).tolist() == [0, 0, 0]
    assert beyond_accuracy.serendipity(found, top, labels, 2).tolist() == [1 / 2, 1 / 2, 0]
    precision = accuracy.per_user(found, labels, 3)["precision"].tolist()
    nobody = np.full((3, 3), NOTHING)
    assert beyond_accuracy.serendipity(found, nobody, labels, 3).tolist() == precision


def test_diversity_is_1_minus_the_mean_cosine_of_all_pairs():
    half = np.sqrt(0.5)
    vectors = np.array([[1, 0], [1, 0], [0, 1], [half, half], [0, 0]])
    found = np.array([[0, 1, NOTHING], [0, 2, 3], [0, 4, 2], [3, 4, NOTHING]])
    mean_cosine = np.array([1, (0 + half + half) / 3, 0])
    for kind in (np.asarray, csr_matrix):
        ours = beyond_accuracy.diversity(found, 3, kind(vectors))
        assert ours == pytest.approx([*(1 - mean_cosine), 0])  # the last has one known track
    assert beyond_accuracy.diversity(found, 2, vectors) == pytest.approx([0, 1, 0, 0])
    assert beyond_accuracy.diversity(found, 1, vectors).tolist() == [0] * 4


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_no_order_of_the_candidates_is_better_than_the_best_one(data):
    n_items = data.draw(st.integers(5, 30))
    played = data.draw(st.sets(st.integers(0, n_items - 1), min_size=1))
    found = data.draw(st.permutations(range(n_items)))[: data.draw(st.integers(1, n_items))]
    labels = csr_matrix((np.ones(len(played)), ([0] * len(played), sorted(played))), (1, n_items))
    reached = np.array([len(played & set(found))])
    best = accuracy.best_ndcg(reached, np.array([len(played)]), 10)
    padded = np.array([found + [NOTHING] * 10])
    assert accuracy.per_user(padded, labels, 10)["ndcg"] <= best + 1e-12
    ideal = np.array([sorted(found, key=lambda item: item not in played) + [NOTHING] * 10])
    assert accuracy.per_user(ideal, labels, 10)["ndcg"] == pytest.approx(best)
