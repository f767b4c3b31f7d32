"""The limit of tracks by one artist: what it moves, what it keeps, and how it is chosen."""

import shutil
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from jobs.contract import storage, tables
from jobs.contract.names import METRICS, RANKING
from jobs.contract.results import Metrics, Ranking
from jobs.contract.storage import JobError
from jobs.contract.top_k import NOTHING
from jobs.ranking.artist_limit import FIRST, LADDER, MOST_COST, choose, limited, spread
from tests.support.workspace import lists, rows, run

N, LENGTH = 30, 20
artist_sets = st.lists(
    st.sets(st.integers(0, 4), max_size=3), min_size=N, max_size=N
)  # of each track
some_lists = st.lists(st.permutations(range(N)).flatmap(
    lambda order: st.integers(0, LENGTH).map(lambda n: order[:n])), min_size=1, max_size=4
)  # fmt: skip


def matrix(artists: list[set[int]]) -> csr_matrix:
    """The artists of tracks as (tracks, artists), with other values than 1 where it has several."""
    rows = [[1 / len(own) if a in own else 0 for a in range(5)] for own in artists]
    return csr_matrix(np.array(rows, np.float32))


def filled(found: list[list[int]]) -> np.ndarray:
    return np.array([own + [NOTHING] * (LENGTH - len(own)) for own in found])


def is_subsequence(part: list[int], whole: list[int]) -> bool:
    rest = iter(whole)
    return all(track in rest for track in part)


@given(artist_sets, some_lists, st.integers(1, 5))
def test_a_limit_keeps_all_tracks_moves_few_and_holds_where_enough_others_are_there(
    artists, found, limit
):
    items = filled(found)
    result = np.take_along_axis(items, limited(items, matrix(artists), limit), axis=1).tolist()
    for before, after in zip(found, result, strict=True):
        n = len(before)
        assert after[n:] == [NOTHING] * (LENGTH - n)
        assert sorted(after[:n]) == sorted(before)
        counts = [0] * 5
        taken = []
        for track in after[:FIRST]:  # the tracks that keep the limit come first, in their order
            if track == NOTHING or any(counts[a] >= limit for a in artists[track]):
                break
            taken.append(track)
            for a in artists[track]:
                counts[a] += 1
        rest = after[len(taken) : n]
        assert is_subsequence(taken, before) and is_subsequence(rest, before)
        if len(taken) < FIRST:  # then no other track of the list could have been taken
            assert all(any(counts[a] >= limit for a in artists[track]) for track in rest)


@given(artist_sets, some_lists)
def test_lists_that_keep_the_limit_and_lists_without_a_limit_stay_as_they_are(artists, found):
    items = filled(found)
    same = np.tile(np.arange(LENGTH), (len(items), 1))
    kinds = matrix(artists)
    assert np.array_equal(limited(items, kinds, None), same)
    assert np.array_equal(limited(items, kinds, FIRST), same)
    for limit in LADDER:
        once = np.take_along_axis(items, limited(items, kinds, limit), axis=1)
        assert np.array_equal(limited(once, kinds, limit), same)


@given(artist_sets, some_lists)
def test_the_spread_is_what_counting_by_hand_gives(artists, found):
    number, most = [], []
    for own in found:
        of_first = [a for track in own[:FIRST] for a in artists[track]]
        number.append(len({*of_first}))
        most.append(max((of_first.count(a) for a in of_first), default=0))
    assert spread(filled(found), matrix(artists)) == pytest.approx((np.mean(number), np.mean(most)))


def world(hits_at: list[int]) -> tuple[np.ndarray, csr_matrix, csr_matrix]:
    """Lists of 20 tracks, the first ten by one artist; each user plays the track at one place."""
    items = np.tile(np.arange(20), (len(hits_at), 1))
    users = np.arange(len(hits_at))
    labels = csr_matrix((np.ones(len(users)), (users, hits_at)), (len(users), 20))
    artists = csr_matrix(([1.0] * 10, (np.arange(10), [0] * 10)), (20, 1))
    return items, labels, artists


@pytest.mark.parametrize(
    ("hits_at", "limit"),
    [
        ([0, 1, 0, 1], 2),  # a limit of 2 moves no hit
        ([0, 1, 2, 0], 3),
        ([0, 1, 2, 3, 6, 7], 8),
        ([0, 1, 5, 6, 8], None),  # even a limit of 8 costs too much
        ([0] * 3000 + [2], 2),  # one hit of 3,001 costs less than .5 %
    ],
)  # fmt: skip
def test_the_smallest_limit_that_costs_little_is_chosen(hits_at, limit):
    choice = choose("auto", *world(hits_at))
    assert choice.limit == limit
    best = choice.ndcg["off"]
    kept = [value >= best * (1 - MOST_COST) for name, value in choice.ndcg.items() if name != "off"]
    assert kept == [limit is not None and tried >= limit for tried in LADDER]
    assert ("would cost" in choice.reason) == (limit is None)


def test_an_option_sets_the_limit_and_without_artists_there_is_none():
    items, labels, artists = world([0, 9])
    assert choose("off", items, labels, artists).limit is None
    assert choose("1", items, labels, artists).limit == 1
    none = choose("auto", *world([15, 16]))
    assert (none.limit, none.reason) == (None, "the lists have no hit on the window validation")
    no_artist = csr_matrix(artists.shape)
    assert choose("auto", items, labels, no_artist).reason == "no track has an artist"


def test_a_limit_that_is_asked_for_holds_in_the_files_and_its_cost_is_reported(finished, tmp_path):
    work = shutil.copytree(finished, tmp_path / "work", symlinks=True)
    assert "at most 2 of the first 10 by one artist (as asked)" in run(
        "rank", work, "--artist-limit", 2
    )
    run("evaluate", work)
    artists_of = dict(rows(tables.ITEMS, work, "track_id", "artist_ids"))
    for window in ("windows/test", ""):
        before = lists(tables.RECOMMENDATIONS, finished / window)
        after = lists(tables.RECOMMENDATIONS, work / window)
        assert before.keys() == after.keys()
        for user, tracks in after.items():
            assert sorted(tracks) == sorted(before[user])
            by = Counter(artist for track in tracks[:FIRST] for artist in artists_of[track])
            assert max(by.values()) <= 2
    ranking = storage.read_json(work / RANKING, "jobs.rank", Ranking)
    assert (ranking.artist_limit, ranking.ndcg_by_artist_limit) == (2, {})
    found = storage.read_json(work / METRICS, "jobs.evaluate", Metrics).artists
    chosen = storage.read_json(finished / METRICS, "jobs.evaluate", Metrics).artists
    assert (found.limit, found.without) == (2, chosen.without)
    assert found.final.most <= 2 < found.without.most
    assert found.final.artists > found.without.artists
    page = (work / "report" / "evaluation.html").read_text()
    assert "At most 2 of the first 10 tracks of a final list are by one artist" in page


def test_the_limit_of_the_line_is_the_one_that_validation_chose(finished):
    ranking = storage.read_json(finished / RANKING, "jobs.rank", Ranking)
    ndcg = ranking.ndcg_by_artist_limit
    fits = [limit for limit in LADDER if ndcg[str(limit)] >= ndcg["off"] * (1 - MOST_COST)]
    assert ranking.artist_limit == min(fits, default=None)
    report = storage.read_json(finished / METRICS, "jobs.evaluate", Metrics).artists
    assert report.limit == ranking.artist_limit
    assert report.final.most <= (ranking.artist_limit or FIRST)


@pytest.mark.parametrize("limit", ["0", "10", "-1", "many", ""])
def test_a_limit_that_is_none_is_an_error_that_names_the_others(limit, tmp_path):
    with pytest.raises(JobError, match="expected auto, off, or 1 to 9"):
        run("rank", tmp_path, f"--artist-limit={limit}")
