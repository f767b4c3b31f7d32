"""The settings that a run chooses for itself."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from jobs.contract import tables
from jobs.data.listens import Listens
from jobs.models import hyperparameters
from jobs.models.hyperparameters import Hyperparameters
from jobs.selection import hyperparameter_search, tuning_window
from jobs.selection.tuning_window import TuningWindow, most_each
from tests.support.workspace import START, run, save_listens


def test_a_half_life_is_found_beyond_others_that_change_nothing():
    def score(tried: Hyperparameters) -> float:
        half_life = tried.popular_half_life
        return 0.2 if half_life is not None and half_life < 1 / 24 else 0.1

    log: list[str] = []
    chosen = hyperparameter_search.climb(Hyperparameters(), ("popular_half_life",), score, log)
    assert chosen.popular_half_life in (1 / 144, 1 / 48)
    assert log == [f"popular_half_life {chosen.popular_half_life}: NDCG@10 0.2000"]


def test_what_gains_next_to_nothing_is_left_as_it_was():
    start = Hyperparameters(als_like_weight=0.0, als_by_share=False)

    def score(tried: Hyperparameters) -> float:
        return 0.1 if tried == start else 0.1001

    names = tuple(hyperparameter_search.LADDERS)
    assert hyperparameter_search.climb(start, names, score, []) == start


def test_every_ladder_has_the_default_on_it():
    for name, ladder in hyperparameter_search.LADDERS.items():
        default = getattr(Hyperparameters(), name)
        assert (ladder[0] if default is UNSET else default) in ladder, name
        assert all(replace(Hyperparameters(), **{name: value}) for value in ladder)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1), st.integers(1, 500))
def test_heavy_listeners_bring_as_many_listens_as_fit_and_light_ones_all(counts, most):
    each = most_each(np.array(counts), most)

    def together(n: int) -> int:
        return sum(min(n, count) for count in counts)

    assert each == 1 or together(each) <= most
    assert each == max(counts) or together(each + 1) > most


def test_a_few_heavy_listeners_are_all_looked_at_and_what_they_heard_long_ago_stays_heard(
    tmp_path, monkeypatch
):
    monkeypatch.setitem(tuning_window.MOST_LISTENS, "quick", 300)
    monkeypatch.setitem(tuning_window.LISTENS_A_TRACK, "quick", 1)
    plays = [(user, (user + 3 * day) % 400, day) for user in range(20) for day in range(200)]
    save_listens(tmp_path, plays)
    run("windows", tmp_path, "--split", "time")
    window = TuningWindow.read(tmp_path / "windows" / "train", "quick", "exclude")
    assert window.listens.shape[0] == 20
    assert np.diff(window.listens.starts).tolist() == [100] * 20  # of 140
    assert np.diff(window.heard.starts).tolist() == [140] * 20


def tuned(work, plays, *options: str) -> Hyperparameters:
    save_listens(work, plays)
    run("windows", work, "--split", "time")
    run("tune", work, *options)
    assert hyperparameters.load(work / "windows" / "test") == hyperparameters.load(work)
    return hyperparameters.load(work)


def test_where_tracks_live_for_a_day_all_that_can_fade_fades(tmp_path):
    rng = np.random.default_rng(0)
    chosen = tuned(
        tmp_path,
        [
            (int(user), 100 * day + int(track), day + turn / 60 + i / 1000)
            for day in range(20)
            for turn, user in enumerate(rng.permutation(150)[:60])
            for i, track in enumerate(rng.permutation(15)[:6])
        ],
    )
    assert chosen.popular_half_life is not None and chosen.popular_half_life <= 1
    assert chosen.als_recency is not None and chosen.als_recency <= 7


@pytest.mark.parametrize("heard", ["include", "exclude"])
def test_where_favourites_come_back_plays_count_if_they_may_be_recommended(heard, tmp_path):
    rng = np.random.default_rng(0)
    plays = []
    for user in range(120):
        favourites = rng.permutation(200)[:4]
        for day in range(60):
            track = rng.choice(favourites) if rng.random() < 0.7 else rng.integers(200)
            plays.append((user, int(track), day + user / 1000))
    chosen = tuned(tmp_path, plays, "--heard", heard)
    assert chosen.heard == heard
    if heard == "include":
        assert chosen.als_repeats > 0
        assert chosen.own_half_life is None or chosen.own_half_life >= 16


def test_one_user_who_repeats_tracks_does_not_decide_that_repeats_matter():
    def share(repeaters: int) -> float:
        plays = [[1, 2, 2]] * repeaters + [[1, 2]] * (200 - repeaters)
        starts = np.cumsum([0, *map(len, plays)])
        item = np.concatenate(plays).astype(np.int32)
        data = Listens(starts, item, np.zeros(len(item), np.uint32), np.arange(200), np.arange(3))
        return hyperparameter_search.share_of_repeaters(data)

    assert share(0) == 0
    assert share(1) < hyperparameter_search.FEW_REPEATERS < share(3)


@pytest.mark.parametrize("telling", [True, False])
def test_likes_weigh_in_als_where_they_tell_what_is_played_later(tmp_path, telling):
    rng = np.random.default_rng(0)
    plays, shares, likes = [], [], []
    for user in range(150):
        taste = 40 * (user % 5)  # each taste is 40 of 200 tracks
        liked = taste + rng.permutation(40)[:8] if telling else rng.permutation(200)[:8]
        likes += [(user, int(track)) for track in sorted(liked)]
        for day in range(40):  # most users have hardly begun to play what they like
            own = rng.random() < (0.2 if day < 26 else 0.9)
            track = taste + rng.integers(40) if own else rng.integers(200)
            plays.append((user, int(track), day + user / 1000))
            shares.append(1.0 if own else 0.5)
    save_listens(tmp_path, plays)
    said = {
        "user_id": [user for user, _ in likes],
        "track_id": [track for _, track in likes],
        "at": pa.array([START] * len(likes), tables.TIME),
        "kind": ["like"] * len(likes),
    }
    tables.write(tables.FEEDBACK, tmp_path, pa.table(said))
    tables.write(tables.SHARES, tmp_path, pa.table({"played_share": shares}))
    run("windows", tmp_path, "--split", "time")
    summary = run("tune", tmp_path)
    chosen = hyperparameters.load(tmp_path)
    assert "als_like_weight" in summary and "als_by_share" in summary
    assert (chosen.als_like_weight > 0) == telling
