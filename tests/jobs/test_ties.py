"""Equal scores are ordered by what carries no information, so ids may be numbered in any way."""

from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.contract import tables
from jobs.contract.names import ALS_MODEL, MAX_ID
from jobs.ranking.candidates import generate
from jobs.ranking.snapshot import Snapshot
from tests.support.ties import by_tie
from tests.support.workspace import rows, run, save_listens

USERS, TRACKS, PLAYS = 12, 30, 10
# Other ids change the order in which float32 numbers are added up, and so their last bits. Cosines
# near 0 are sums of numbers near 1, whose last bits are some 1e-7.
NEAR = {"rel": 1e-4, "abs": 1e-6}
# Generators whose scores are only places in a file; the files themselves are looked at.
BY_PLACE = {"popular", "als", "new_tracks"}
RANKED = (tables.PERSONAL_ALS, tables.SIMILAR, tables.NEXT_PLAYED)
Lists = dict[int, list[tuple[int, float]]]  # by key, tracks with scores, best first


def lists_of(ids: np.ndarray, seed: int) -> dict[str, Lists]:
    """All lists of users and tracks, with the tracks' numbers, of the same plays under these ids.

    The plays, and the vectors of the ALS model, are such that many scores are equal.
    """
    rng = np.random.default_rng(seed)
    plays = [(user, int(ids[t]), d) for user in range(USERS) for d, t in played(rng)]
    vectors = rng.integers(-1, 2, (USERS + TRACKS, 2)).astype(np.float32)
    number = {int(track_id): track for track, track_id in enumerate(ids)}
    with TemporaryDirectory() as folder:
        work = save_listens(Path(folder), plays, tracks=ids.tolist())
        by_id = vectors[USERS:][np.argsort(ids)]
        np.savez(work / ALS_MODEL, user_factors=vectors[:USERS], item_factors=by_id)
        for job in ("top_popular", "personal_als", "similar", "next_played", "item_weights"):
            run(job, work)
        top = rows(tables.TOP_POPULAR, work, "track_id", "score")
        result = {"top": {0: [(number[track_id], score) for track_id, score in top]}}
        for table in RANKED:
            key, item, _, score = table.schema.names
            of_table: Lists = {}
            for owner, track_id, value in rows(table, work, key, item, score):
                owner = number[owner] if key == "track_id" else owner
                of_table.setdefault(owner, []).append((number[track_id], value))
            result[table.file] = of_table
        snapshot = Snapshot.read(work)
        track_of = [number[track_id] for track_id in snapshot.data.track_ids.tolist()]
        scores, found = generate(snapshot, snapshot.data, length=8)
        for name, items in found.items():
            values = scores[name].toarray()
            result[name] = {
                user: [(track_of[i], float(values[user, i])) for i in own if i >= 0]
                for user, own in enumerate(items.tolist())
            }
    return result


def played(rng: np.random.Generator) -> list[tuple[int, int]]:
    return list(enumerate(rng.integers(0, TRACKS, PLAYS).tolist()))


def groups(pairs: list[tuple[int, float]]) -> list[tuple[float, list[int]]]:
    """The tracks of each score, which may differ in its last bits, in the order of the list."""
    result: list[tuple[float, list[int]]] = []
    for track, score in pairs:
        if result and score == pytest.approx(result[-1][0], **NEAR):
            result[-1][1].append(track)
        else:
            result.append((score, [track]))
    return result


@settings(max_examples=6)
@given(
    st.integers(0, 999),
    st.lists(st.integers(0, MAX_ID), min_size=TRACKS, max_size=TRACKS, unique=True),
)
def test_other_ids_of_the_tracks_change_lists_only_between_equal_scores(seed, ids):
    before, after = (lists_of(some, seed) for some in (np.arange(TRACKS), np.array(ids)))
    assert before.keys() == after.keys()
    ties = 0
    for name in before.keys() - BY_PLACE:
        assert before[name].keys() == after[name].keys()
        for owner, pairs in before[name].items():
            one, other = groups(pairs), groups(after[name][owner])
            scores = [score for score, _ in other]
            assert [score for score, _ in one] == pytest.approx(scores, **NEAR), name
            for (_, tracks), (_, others) in zip(one[:-1], other[:-1], strict=True):
                assert {*tracks} == {*others}, (name, owner)
                ties += len(tracks) > 1
    assert ties  # otherwise nothing was tested


@given(st.integers(0, 999))
@settings(max_examples=3)
def test_equal_scores_are_in_the_order_of_the_hashes_of_ids(seed):
    ids = np.random.default_rng(seed).choice(10_000, TRACKS, replace=False)
    made = lists_of(ids, seed)
    for name in made.keys() - BY_PLACE:
        for pairs in made[name].values():
            for _, of_score in groupby(pairs, key=lambda pair: pair[1]):
                track_ids = [int(ids[track]) for track, _ in of_score]
                assert track_ids == by_tie(track_ids), name
