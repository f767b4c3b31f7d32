"""One user moves nothing that all users get by more than the stated bounds."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.data import bounds, listens, sampling, splitting
from jobs.data.bounds import PLAYS_OF_PAIR, SHARE_OF_USER, most_share, user_weights
from jobs.data.listens import SECONDS_A_DAY, Listens
from jobs.models import next_played
from jobs.models.als_training import training_weights
from jobs.models.hyperparameters import Hyperparameters
from jobs.models.popularity import popularity
from jobs.runtime import parallel

TRACKS = 12
TIMES = st.integers(0, 400)  # days
PLAYS = st.lists(st.tuples(st.integers(0, TRACKS - 1), TIMES), min_size=1, max_size=30)


@st.composite
def anybody(draw: Any) -> list[tuple[int, int]]:
    """Any account's plays: a few of any kind, and perhaps one or two tracks very often."""
    plays = draw(PLAYS)
    for _ in range(draw(st.integers(0, 2))):
        track, day = draw(st.integers(0, TRACKS - 1)), draw(TIMES)
        plays += [(track, day)] * draw(st.sampled_from([25, 300, 5000]))
    if draw(st.booleans()):  # two tracks in turn
        plays += [(i % 2, 200) for i in range(draw(st.sampled_from([50, 700])))]
    return plays


def listens_of(users: list[list[tuple[int, int]]]) -> Listens:
    """The users' plays of tracks on days, in order of time."""
    own = [sorted(plays, key=lambda play: play[1]) for plays in users]
    flat = [play for plays in own for play in plays]
    return Listens(
        np.cumsum([0, *map(len, own)]),
        np.array([track for track, _ in flat], np.int32),
        np.array([day * SECONDS_A_DAY for _, day in flat], np.uint32),
        np.arange(len(own)),
        np.arange(TRACKS),
    )


TOWNS = st.lists(PLAYS, min_size=20, max_size=60)


def with_and_without(town: list[Any], account: Any) -> tuple[Listens, Listens]:
    return listens_of([*town, account]), listens_of(town)


def in_order_of_tracks(table: Any, column: str) -> np.ndarray:
    result = np.zeros(TRACKS)
    result[table["track_id"].to_numpy()] = table[column].to_numpy()
    return result


@settings(max_examples=60)
@given(TOWNS, anybody(), st.sampled_from([1.0, 30.0, None]))
def test_one_account_adds_at_most_one_listener_to_a_tracks_popularity(town, account, half_life):
    more, less = with_and_without(town, account)
    end = less.span[1]
    more.__dict__["span"] = (0, end)  # the end, too, is robust, but that is not the claim here
    scores = [in_order_of_tracks(popularity(of, half_life), "score") for of in (more, less)]
    gain = scores[0] - scores[1]
    assert gain.min() > -1e-4 and gain.max() <= 1 + 1e-4


@settings(max_examples=60)
@given(TOWNS, anybody())
def test_one_account_adds_bounded_plays_and_one_listener_since_any_moment(town, account):
    moments = [day * SECONDS_A_DAY for day in (0, 100, 350)]
    more, less = (
        bounds.track_counts(of, moments=moments) for of in with_and_without(town, account)
    )
    assert ((more.bounded - less.bounded) <= PLAYS_OF_PAIR).all()
    for gain in (more.listeners - less.listeners, more.since - less.since):
        assert gain.min() >= 0 and gain.max() <= 1


@settings(max_examples=60)
@given(TOWNS, st.integers(1, 40), st.integers(1, 8))
def test_neither_blocks_nor_threads_change_what_is_counted(town, listens_a_block, threads):
    data, moments = listens_of(town), [100 * SECONDS_A_DAY]
    counted = np.arange(len(town)) % 5 > 0

    def found() -> list[np.ndarray]:
        counts = bounds.track_counts(data, counted, moments, half_life_days=30.0)
        return [*vars(counts).values(), *bounds.track_ends(data, counted)]

    whole = found()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listens, "LISTENS_A_BLOCK", listens_a_block)
        patch.setattr(parallel, "_threads", threads)
        in_parts = found()
    for one, other in zip(whole, in_parts, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


@settings(max_examples=60)
@given(TOWNS, anybody())
def test_one_account_makes_a_track_new_or_old_only_if_nobody_else_plays_it(town, account):
    more, less = with_and_without(town, account)
    for of in (more, less):
        of.__dict__["span"] = (0, 400 * SECONDS_A_DAY)
    firsts = sorted_moments(town, latest=False)
    lasts = sorted_moments(town, latest=True)
    first, last = bounds.track_ends(more)
    for track in range(TRACKS):
        if len(firsts[track]) > 1:
            assert firsts[track][0] <= first[track] / SECONDS_A_DAY <= firsts[track][1]
            assert lasts[track][1] <= last[track] / SECONDS_A_DAY or last[track] == first[track]
            assert last[track] / SECONDS_A_DAY <= max(lasts[track][0], firsts[track][1])


def sorted_moments(town: list[Any], latest: bool) -> list[list[int]]:
    """The day of each listener's first or last play, by track, the most extreme first."""
    of_track: list[list[int]] = [[] for _ in range(TRACKS)]
    for plays in town:
        for track in {track for track, _ in plays}:
            days = [day for other, day in plays if other == track]
            of_track[track].append(max(days) if latest else min(days))
    return [sorted(days, reverse=latest) for days in of_track]


@settings(max_examples=60)
@given(TOWNS, anybody())
def test_one_accounts_part_in_what_follows_a_track_is_bounded(town, account):
    settings_ = Hyperparameters()
    more, less = with_and_without(town, account)
    steps = next_played.step_weights(settings_.next_window, settings_.next_decay).sum()
    counts = [next_played.follow_counts(of, settings_).toarray() for of in (more, less)]
    within = np.abs(counts[0] - counts[1]).max(axis=1)
    weights = [user_weights(np.diff(of.starts)) for of in (more, less)]
    if (weights[0][:-1] == weights[1]).all():  # nobody else's weight changed
        assert within.max() <= PLAYS_OF_PAIR * steps + 1e-3
    plays = next_played.Plays.of(more, None)
    of_account = next_played.Plays.of(listens_of([account]), None).times.sum()
    assert plays.times.sum() <= len(more.item)
    assert of_account <= PLAYS_OF_PAIR * TRACKS + 1e-3


@given(st.lists(st.integers(1, 40), min_size=1, max_size=300), st.integers(1, 10**6))
def test_no_user_has_more_than_the_share_and_ordinary_ones_are_not_touched(plays, one):
    counts = np.array([*plays, one])
    weights = user_weights(counts)
    weighed = weights * counts
    assert weighed.max() <= most_share(len(counts)) * weighed.sum() * (1 + 1e-9)
    assert (weights[counts <= most_share(len(counts)) * sum(plays)] == 1).all()


@settings(max_examples=60)
@given(st.lists(PLAYS, min_size=60, max_size=90), anybody(), st.sampled_from([0.7, 0.8, 0.9]))
def test_one_account_moves_a_quantile_by_no_more_than_its_share(town, account, share):
    more, less = with_and_without(town, account)
    [at] = bounds.moments(more, user_weights(np.diff(more.starts)), [share])
    weights = np.repeat(user_weights(np.diff(less.starts)), np.diff(less.starts))
    before, upto = (weights[part].sum() / weights.sum() for part in (less.at < at, less.at <= at))
    moved = most_share(len(town)) + 2 / weights.sum()
    assert before - moved <= share <= upto + moved


@given(
    st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=60),
    st.sampled_from([0.1, 0.5, 0.9, 0.7]),
)
def test_with_equal_weights_moments_are_numpys_quantiles(at, share):
    data = Listens(
        np.array([0, len(at)]), np.zeros(len(at), np.int32), np.sort(np.array(at, np.uint32)),
        np.arange(1), np.arange(1),
    )  # fmt: skip
    expected = np.quantile(np.array(at), share, method="higher")
    assert bounds.moments(data, np.ones(1), [share]) == [expected]


def test_a_play_loop_does_not_weigh_more_in_training_than_the_bound():
    data = listens_of([[(3, day) for day in range(200)], [(3, 1)]])
    weights = training_weights(data, Hyperparameters(als_repeats=1.0)).toarray()
    assert weights[:, 3].tolist() == [PLAYS_OF_PAIR, 1]


def test_the_heaviest_users_of_a_large_service_keep_all_their_weight():
    rng = np.random.default_rng(0)
    plays = np.append(rng.lognormal(3.5, 1.2, 6_000).astype(int) + 1, [2_000, 2_300])
    assert (user_weights(plays) == 1).all()
    year = np.append(rng.lognormal(6, 1.2, 3_000).astype(int) + 1, 16_637)
    assert user_weights(year)[-1] > 0.95
    assert most_share(6_000) == SHARE_OF_USER


IDS = st.integers(0, 2**53 - 1)


@given(st.sets(IDS, max_size=80), st.sets(IDS, max_size=10), st.integers(0, 40), st.integers(0, 9))
def test_more_users_exchange_at_most_as_many_members_of_a_sample(ids, more, k, seed):
    before, after = (np.array(sorted(of), np.int64) for of in (ids, ids | more))
    one, other = (set(of[sampling.drawn(of, k, seed)].tolist()) for of in (before, after))
    assert len(one) == min(k, len(before)) and len(other) == min(k, len(after))
    assert len(one - other) <= len(more - ids)
    assert other - one <= more


def test_samples_are_even_and_differ_by_seed():
    ids = np.arange(100_000)
    chosen = sampling.drawn(ids, 10_000, 20)
    assert np.histogram(chosen, 10, (0, 100_000))[0] == pytest.approx(1000, abs=150)
    others = sampling.drawn(ids, 10_000, 21)
    assert len(np.intersect1d(chosen, others)) == pytest.approx(1000, abs=150)
    chance = sampling.fractions(ids, ids % 7, 1)
    assert np.histogram(chance, 10, (0, 1))[0] == pytest.approx(10_000, abs=500)


def test_one_account_more_changes_no_cut_beyond_its_share_and_no_sample(monkeypatch):
    rng = np.random.default_rng(0)
    town = [
        [(int(track), int(day)) for track, day in zip(rng.integers(0, 12, 20), days, strict=True)]
        for days in rng.integers(0, 400, (2000, 20))
    ]
    bot = [(5, 400)] * 30_000
    more, less = with_and_without(town, bot)
    cuts = [
        splitting.by_time(of, 0.1, 0, user_weights(np.diff(of.starts)))[0].cut
        for of in (more, less)
    ]
    days = [np.datetime64(cut[:10]) for cut in cuts]
    assert abs(days[0] - days[1]) <= np.timedelta64(5, "D")  # a hundredth of 400 days is four
    monkeypatch.setattr(splitting, "MOST_LISTENS", 20_000)
    members = [
        set(np.flatnonzero(splitting.sample(of, user_weights(np.diff(of.starts)))).tolist())
        for of in (more, less)
    ]
    assert len(members[0] ^ members[1]) <= 2 + 0.02 * len(members[1])
