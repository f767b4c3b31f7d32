"""Listens with a wrong time change nothing, and no right listen is taken for one."""

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.contract import storage, tables
from jobs.contract.names import CLOCK
from jobs.contract.storage import JobError
from jobs.data import clock
from jobs.data.histories import Listens as Read
from jobs.data.listens import Listens
from tests.support.workspace import START, rows, run, save_input

TRACKS = range(100, 130)
NOW = datetime(2023, 1, 1)
GOOD = [(user, 100 + (user + day) % 30, day + user / 40) for user in range(20) for day in range(60)]


def days_to(moment: datetime) -> float:
    return (moment - START) / timedelta(days=1)


def prepared(folder: Path, listens: list, *options: object) -> tuple[Path, str]:
    data = save_input(folder / "in", listens, list(TRACKS))
    summary = run("prepare", folder, "--data", data, "--now", NOW.isoformat(), *options)
    return folder, summary


wrong_times = st.one_of(
    st.datetimes(datetime(1970, 1, 1), datetime(2020, 1, 1)),
    st.datetimes(NOW + timedelta(days=1, seconds=1), datetime(2099, 12, 31)),
)


@given(
    st.lists(
        st.tuples(st.integers(0, 30), st.sampled_from(TRACKS), wrong_times), min_size=1, max_size=12
    )
)
def test_listens_with_wrong_times_are_left_out_and_change_no_byte(tmp_path_factory, wrong):
    more = [(user, track, days_to(at)) for user, track, at in wrong]
    clean, _ = prepared(tmp_path_factory.mktemp("clean"), GOOD)
    dirty, summary = prepared(tmp_path_factory.mktemp("dirty"), GOOD + more)
    for table in (tables.LISTENS, tables.USERS, tables.ITEMS):
        assert (clean / table.file).read_bytes() == (dirty / table.file).read_bytes()
    reasons = [reason for _, _, reason, _ in rows(tables.QUARANTINE, dirty)]
    assert len(reasons) == len(wrong)
    later = sum(at > NOW for _, _, at in wrong)
    assert reasons.count("started_at is over a day later than now") == later
    assert reasons.count("started_at is far from all other times") == len(wrong) - later
    assert f"{len(wrong)} rows quarantined" in summary
    found = storage.read_json(dirty / CLOCK, "jobs.prepare")
    assert (found["later_than_now"], found["far"]) == (later, len(wrong) - later)


def test_a_warning_names_what_was_left_out_and_where_it_is(tmp_path, capsys):
    wrong = [(1, 100, days_to(datetime(2098, 1, 1))), (1, 100, days_to(datetime(1970, 1, 1)))]
    prepared(tmp_path, GOOD + wrong)
    first, second = capsys.readouterr().err.splitlines()[-2:]
    assert "1 rows left out, where started_at is over a day later than now" in first
    assert "1 rows left out, where started_at is far from all other times" in second
    assert str(tmp_path / tables.QUARANTINE.file) in first


def test_where_much_is_later_than_now_the_clock_of_the_machine_is_named(tmp_path):
    with pytest.raises(JobError, match=r"correct the clock of this machine, or pass .* as --now"):
        prepared(tmp_path, GOOD, "--now", "2022-01-10")
    assert not (tmp_path / tables.LISTENS.file).exists()
    _, summary = prepared(tmp_path, GOOD, "--now", "2022-03-01T00:00")
    assert "0 rows quarantined" in summary


@pytest.mark.parametrize("far", ["inf", "1e9"])
def test_an_option_keeps_far_times(tmp_path, far):
    early = [(1, 100, days_to(datetime(1999, 1, 1)))]
    _, summary = prepared(tmp_path, GOOD + early, "--far", far)
    assert "0 rows quarantined" in summary


@pytest.mark.parametrize("now", ["soon", "9999-12-31T23:59-05:00", "1700000000"])
def test_what_is_no_moment_is_refused(tmp_path, now, capsys):
    with pytest.raises(SystemExit):
        prepared(tmp_path, GOOD, "--now", now)
    assert "is not a moment: expected one as 2024-01-31" in capsys.readouterr().err


@given(
    st.floats(0.1, 3.0),
    st.sampled_from([1, -1]),
    st.integers(100, 100_000),
    st.integers(0, 2**32 - 1),
)
def test_fifteen_years_of_exponential_growth_or_decline_lose_no_row(rate, direction, n, seed):
    """`rate` is the growth in a year: e^0.1 is 10 %, e^3 is twentyfold."""
    share = np.random.default_rng(seed).random(n)
    years = np.log1p(share * np.expm1(rate * 15)) / rate  # by the inverse of the distribution
    days = 10_000 + 365 * (years if direction > 0 else 15 - years)
    time = (days * clock.DAY).astype(np.int64)
    bounds = clock.time_bounds(Read(np.zeros(n, np.int32), time, time, time), n, clock.FAR)
    assert bounds.first <= time.min() and time.max() <= bounds.last


def listens_of(per_user: list[list[int]]) -> Listens:
    at = np.array([at for times in per_user for at in sorted(times)], np.uint32)
    starts = np.cumsum([0, *map(len, per_user)])
    return Listens(starts, np.zeros(len(at), np.int32), at, np.arange(len(per_user)), np.arange(1))


moments = st.lists(st.integers(10**6, 10**7), min_size=1, max_size=5)


@given(st.lists(moments, min_size=15, max_size=60), st.lists(st.integers(0, 2**32 - 1), max_size=9))
def test_two_users_with_wrong_clocks_do_not_set_the_span(users, wrong):
    clean = listens_of(users)
    odd = [[*users[0], *wrong], [*users[1], *wrong[:3]], *users[2:]]
    begin, end = listens_of(odd).span
    assert clean.at.min() <= begin <= end <= clean.at.max()


@given(st.lists(st.lists(st.integers(0, 2**32 - 1), max_size=4), max_size=30))
def test_the_span_lies_within_the_listens(users):
    listens = listens_of(users)
    begin, end = listens.span
    assert (begin, end) == (0, 0) if not len(listens.at) else begin <= max(listens.at) >= end


@given(
    times=st.lists(st.integers(0, 60) | st.integers(1000, 1060), min_size=1),
    cuts=st.lists(st.integers(0, 50), max_size=3),
)
def test_wrong_times_become_their_neighbours_and_right_ones_stay_in_blocks_of_any_size(times, cuts):
    latest, now = 100, 100_000
    blocks = np.split(np.array(times), sorted(min(cut, len(times)) for cut in cuts))
    before = clock.time_before(iter(blocks), latest, now)
    found = []
    for block in filter(len, blocks):
        found += clock.neighbours_times(block, latest, before).tolist()
        before = found[-1]
    right = [i for i, time in enumerate(times) if time <= latest]
    for i in range(len(times)):
        earlier = [j for j in right if j <= i]
        if earlier:
            assert found[i] == times[earlier[-1]] + i - earlier[-1]
        elif right:
            assert found[i] == times[right[0]] - (right[0] - i)
        else:
            assert found[i] == now - (len(times) - 1 - i)


@given(st.integers(0, 10**6), st.sampled_from([0.5, 0.9, 0.999]), st.integers(0, 1000))
def test_a_bot_that_plays_more_than_all_others_makes_none_of_their_times_far(seed, share, day):
    rng = np.random.default_rng(seed)
    n = 4000
    people = rng.integers(0, 200, n), rng.integers(0, 1000, n)
    plays = int(n * share / (1 - share))
    user = np.append(people[0], np.full(plays, 999))
    time = np.append(people[1], np.full(plays, day)) * clock.DAY
    order = rng.permutation(len(user))
    listens = Read(user[order], np.zeros(len(user), int), time[order], np.zeros(len(user), int))
    bounds = clock.time_bounds(listens, len(user), clock.FAR)
    assert bounds.first == 0 and bounds.last > 1000 * clock.DAY
