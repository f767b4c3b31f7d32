"""A forecast of popularity: learned from how popularity went on before, and used where it pays."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from jobs.data.bounds import track_counts
from jobs.data.holdout import Holdout
from jobs.data.listens import SECONDS_A_DAY, Listens
from jobs.evaluation.generator_lists import forecast_pays
from jobs.models.forecast import forecast
from jobs.ranking.generators import GENERATORS
from jobs.ranking.snapshot import Snapshot

LIFE = (4, 8, 12, 16, 12, 8, 4, 2, 1)  # new listeners of a track on each day of its life
FAMILIAR = 0  # a track that everybody has played, on the first day
DAYS = 60
LENGTH = 2 * SECONDS_A_DAY


def plays_of_hits(days: int) -> list[tuple[int, int, int]]:
    """(user, track, second): each day one more track begins its life."""
    rng = np.random.default_rng(0)
    users = 400
    plays = [(user, FAMILIAR, user) for user in range(users)]
    for born in range(1, days):
        listeners = rng.permutation(users)
        for age, n in enumerate(LIFE):
            first = sum(LIFE[:age])
            for user in listeners[first : first + n] if born + age < days else ():
                plays.append((int(user), born, (born + age) * SECONDS_A_DAY + int(user)))
    return plays


def listens_of(plays: list[tuple[int, int, int]], tracks: int) -> Listens:
    user, item, at = map(np.array, zip(*sorted(plays, key=lambda p: (p[0], p[2])), strict=True))
    users = np.unique(user)
    starts = np.append(np.searchsorted(user, users), len(user))
    return Listens(starts, item.astype(np.int32), at.astype(np.uint32), users, np.arange(tracks))


def everybody(data: Listens) -> np.ndarray:
    return np.ones(data.shape[0], bool)


PAST = listens_of(plays_of_hits(DAYS), DAYS + 5)


def test_no_half_life_foresees_more_of_the_coming_listeners():
    coming = np.zeros(DAYS + 5)
    for born in range(1, DAYS):
        coming[born] = sum(LIFE[DAYS - born : DAYS - born + 2])
    first = np.argsort(-forecast(PAST, everybody(PAST), LENGTH))[:5]
    for half_life in (0.25, 0.5, 1.0, 2.0, 4.0, 8.0):
        top = np.argsort(-track_counts(PAST, half_life_days=half_life).faded)[:5]
        assert coming[first].sum() >= coming[top].sum()
    most_played = np.argsort(-track_counts(PAST).listeners)[:5]
    assert coming[first].sum() > 80 > 0 == coming[most_played].sum()


def test_tracks_without_a_listen_have_no_forecast():
    found = forecast(PAST, everybody(PAST), LENGTH)
    assert (PAST.plays()[found > 0] > 0).all()
    assert found.any() and np.isfinite(found).all()


def test_users_who_do_not_count_change_nothing():
    others = [(1000 + i, 7, DAYS * SECONDS_A_DAY - i) for i in range(300)]
    more = listens_of([*plays_of_hits(DAYS), *others], DAYS + 5)
    counted = more.user_ids < 1000
    expected = forecast(PAST, everybody(PAST), LENGTH)
    assert forecast(more, counted, LENGTH) == pytest.approx(expected)


def test_a_sample_of_the_users_foresees_about_as_many_listeners_as_all_of_them(monkeypatch):
    expected = forecast(PAST, everybody(PAST), LENGTH)
    monkeypatch.setattr("jobs.models.forecast.MOST_LISTENS", len(PAST.item) // 2)
    assert forecast(PAST, everybody(PAST), LENGTH).sum() == pytest.approx(expected.sum(), rel=0.2)


@settings(max_examples=10)
@given(st.integers(0, len(plays_of_hits(DAYS)) - 1), st.integers(1, 50))
def test_a_user_who_plays_a_track_again_and_again_adds_one_listener(which, times):
    plays = plays_of_hits(DAYS)
    more = listens_of([*plays, *[plays[which]] * times], DAYS + 5)
    expected = forecast(PAST, everybody(PAST), LENGTH)
    assert forecast(more, everybody(more), LENGTH) == pytest.approx(expected)


@pytest.mark.parametrize("days", [1, 2, 5])
def test_from_a_past_that_is_too_short_nothing_is_concluded(days):
    short = listens_of(plays_of_hits(days), DAYS)
    assert not forecast(short, everybody(short), 4 * SECONDS_A_DAY).any()


def test_it_is_used_only_if_its_list_is_surely_much_better_than_the_top_list(finished):
    snapshot = Snapshot.read(finished / "windows" / "train")
    n_tracks = snapshot.data.shape[1]
    some = np.arange(120)
    tracks = np.arange(n_tracks, dtype=np.int32)
    labels = 1 - snapshot.data.of_users(some).pairs().toarray()
    labels[:, 60:] = 0  # of the first tracks, all that each user hasn't heard
    users = Holdout(snapshot.data.user_ids[some], some, csr_matrix(labels))
    users = users.take(users.labels.getnnz(axis=1) > 0)

    def pays(rising: np.ndarray, top: np.ndarray, users: Holdout = users) -> bool:
        changed = replace(snapshot, top=top)
        vars(changed)["rising"] = rising  # instead of what would be computed
        return forecast_pays(changed, users)

    worse = np.roll(tracks, 5)
    assert pays(tracks, worse)
    assert not pays(worse, tracks)
    assert not pays(tracks, tracks)
    assert not pays(tracks, worse, users.take(np.arange(40)))
    assert not pays(tracks[:0], tracks)


def test_where_it_is_off_it_proposes_nothing_and_its_feature_is_the_same_for_all_tracks(finished):
    snapshot = Snapshot.read(finished / "windows" / "train")
    off = replace(snapshot, switched_off=frozenset({"forecast"}))
    block = snapshot.data.of_users(np.arange(20))
    assert GENERATORS["forecast"].scores(snapshot, block).nnz
    assert not GENERATORS["forecast"].scores(off, block).nnz
    assert len(np.unique(snapshot.item_features["forecast_score"])) > 10
    assert len(np.unique(off.item_features["forecast_score"])) == 1
