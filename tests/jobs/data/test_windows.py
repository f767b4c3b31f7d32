"""jobs.windows: the past and what came after it, on tables whose answer can be seen."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.contract import storage, tables
from jobs.contract.names import WINDOWS
from jobs.contract.storage import JobError
from jobs.data import splitting
from jobs.data.listens import SECONDS_A_DAY, Listens
from tests.support.workspace import START, rows, run, save_listens

HOUR = 1 / 24


def test_large_data_give_windows_of_the_same_random_users(tmp_path, monkeypatch):
    plays = [(user, 7, day + user / 100) for user in range(40) for day in range(20)]
    save_listens(tmp_path, plays)
    monkeypatch.setattr(splitting, "MOST_LISTENS", 200)
    summary = run("windows", tmp_path, "--split", "time")
    assert "listens of a sample of 25.0% of the users held out" in summary
    kept = [set(days(tables.LISTENS, tmp_path, name)) for name in WINDOWS]
    assert len(kept[0]) == 10
    assert kept[0] == kept[1] == kept[2]
    for name, left in zip(WINDOWS, (14, 16, 18), strict=True):
        past, held = (days(table, tmp_path, name) for table in (tables.LISTENS, tables.HOLDOUT))
        for user in kept[0]:
            assert past[user] == pytest.approx([day + user / 100 for day in range(left)])
            assert held[user] == pytest.approx([day + user / 100 for day in (left, left + 1)])
        assert splitting.users_share(tmp_path / "windows" / name) == 0.25
    assert splitting.users_share(tmp_path) == 1


def days(table: tables.Table, work, name: str) -> dict[int, list[float]]:
    """The days on which each user's listens in a window's file were."""
    result: dict[int, list[float]] = {}
    for user, at in rows(table, work / "windows" / name, "user_id", "started_at"):
        result.setdefault(user, []).append((at - START).total_seconds() / SECONDS_A_DAY)
    return result


def split_of(work) -> dict:
    return storage.read_json(work / "windows" / "test" / "split.json", "jobs.windows")


def test_a_time_split_holds_out_the_last_tenth_the_tenth_before_and_the_one_before_that(tmp_path):
    save_listens(tmp_path, [(1 + day % 2, 7, day) for day in range(20)])
    run("windows", tmp_path, "--split", "time")
    held = {name: days(tables.HOLDOUT, tmp_path, name) for name in WINDOWS}
    assert held["test"] == {1: [18], 2: [19]}
    assert held["validation"] == {1: [16], 2: [17]}
    assert held["train"] == {1: [14], 2: [15]}
    for name, end in (("test", 18), ("validation", 16), ("train", 14)):
        past = days(tables.LISTENS, tmp_path, name)
        assert past == {1: [*range(0, end, 2)], 2: [*range(1, end, 2)]}
        users = rows(tables.USERS, tmp_path / "windows" / name)
        assert [row[:3] for row in users] == [(1, 0, end // 2), (2, 1, end // 2)]
        assert [(row[3] - START).days for row in users] == [end - 2, end - 1]
    assert split_of(tmp_path)["cut"] == "2022-01-19T00:00:00+00:00"


def test_a_gap_is_left_out_of_the_holdout_but_not_of_later_pasts(tmp_path):
    save_listens(tmp_path, [(1, 7, day) for day in range(20)])
    run("windows", tmp_path, "--split", "time", "--gap", 1)
    held = {name: days(tables.HOLDOUT, tmp_path, name)[1] for name in WINDOWS}
    assert held == {"train": [15], "validation": [17], "test": [19]}
    assert days(tables.LISTENS, tmp_path, "test")[1] == list(range(18))


def test_a_moment_is_never_cut_in_two(tmp_path):
    at = [*range(12), 12, 12, 12, 13, 13, 13, 14, 14]  # a tenth would start at the 17th, and so on
    save_listens(tmp_path, [(user, 7, day) for user, day in enumerate(at)])
    run("windows", tmp_path, "--split", "time")
    held = {name: days(tables.HOLDOUT, tmp_path, name).values() for name in WINDOWS}
    assert list(held["train"]) == [[12]] * 3
    assert list(held["validation"]) == [[13]] * 3
    assert list(held["test"]) == [[14]] * 2


def test_a_user_split_holds_out_the_end_of_each_history_and_leaves_short_ones_whole(tmp_path):
    history = {1: 20, 2: 1, 3: 2, 4: 3}  # users and their numbers of listens
    save_listens(tmp_path, [(u, 7, u + i * HOUR) for u, n in history.items() for i in range(n)])
    run("windows", tmp_path, "--split", "user")
    counts = {
        name: [
            {user: len(own) for user, own in days(table, tmp_path, name).items()}
            for table in (tables.LISTENS, tables.HOLDOUT)
        ]
        for name in WINDOWS
    }
    assert counts == {
        "test": [{1: 18, 2: 1, 3: 2, 4: 2}, {1: 2, 4: 1}],
        "validation": [{1: 16, 2: 1, 3: 2, 4: 2}, {1: 2}],
        "train": [{1: 14, 2: 1, 3: 2, 4: 2}, {1: 2}],
    }
    held = days(tables.HOLDOUT, tmp_path, "validation")[1]
    assert held == pytest.approx([1 + 16 * HOUR, 1 + 17 * HOUR])


def people(kind: str) -> list[tuple[int, int, float]]:
    """Listens of users of one kind, over 300 days."""
    rng = np.random.default_rng(0)
    if kind == "share a clock and come back":
        return [(u, int(rng.integers(50)), d) for u in range(30) for d in range(u, 300, 10)]
    if kind == "play at one moment":
        return [(u, int(t), 0) for u in range(30) for t in rng.permutation(50)[:20]]
    if kind == "play for some months and leave":
        return [(u, int(rng.integers(50)), 2 * u + d) for u in range(120) for d in range(0, 100, 5)]
    first = rng.integers(0, 300, 200)
    daily = kind == "come once for tracks that die within a day"
    return [
        (u, int(rng.integers(50)) + (1000 * int(day) if daily else 0), day + i / 1000)
        for u, day in enumerate(first)
        for i in range(10)
    ]


@pytest.mark.parametrize(
    ("kind", "split"),
    [
        ("share a clock and come back", "time"),
        ("come once", "user"),
        ("come once for tracks that die within a day", "time"),
        ("play at one moment", "user"),
        ("play for some months and leave", "user"),
    ],
)
def test_auto_chooses_the_split_that_fits_users_who(kind, split, tmp_path):
    save_listens(tmp_path, people(kind))
    summary = run("windows", tmp_path)
    found = split_of(tmp_path)
    assert found["split"] == split
    assert summary.startswith(f"{split} split ({found['reason']})")
    run("windows", tmp_path, "--split", "user")
    assert split_of(tmp_path)["split"] == "user"


def test_a_window_holds_out_more_where_less_leaves_one_of_them_empty(tmp_path):
    listens = [(user, 40 * day + user, day) for day in range(30) for user in range(40)]
    save_listens(tmp_path, listens * 3)
    run("windows", tmp_path)
    found = split_of(tmp_path)
    assert found["split"] == "time"
    assert 0.01 < found["share"] <= 0.1


def test_a_time_split_holds_out_more_where_few_users_could_be_judged(tmp_path):
    # Everybody plays once in 26 days, but a tenth of the listens takes 12 days.
    save_listens(tmp_path, [(u, u % 7, day) for u in range(120) for day in range(u % 26, 120, 26)])
    run("windows", tmp_path)
    found = split_of(tmp_path)
    assert found["split"] == "time"
    assert found["share"] == 0.15
    run("windows", tmp_path, "--share", "0.1")
    found = split_of(tmp_path)
    assert (found["split"], found["share"]) == ("user", 0.1)
    assert "of 120 users could be judged" in found["reason"]


@st.composite
def histories(draw) -> Listens:
    """Listens of a few users, many at the same moments."""
    at = draw(st.lists(st.lists(st.integers(0, 12), min_size=1, max_size=12), min_size=1))
    moments = np.array([day for own in at for day in sorted(own)]) * SECONDS_A_DAY
    starts = np.cumsum([0, *map(len, at)])
    item = np.zeros(len(moments), np.int32)
    return Listens(starts, item, moments, np.arange(len(at)), np.arange(1))


@settings(max_examples=100, deadline=None)
@given(histories(), st.sampled_from([0.05, 0.1, 0.25]), st.sampled_from([0, 0.5, 2]))
def test_by_time_a_holdout_starts_a_gap_after_its_past_and_is_part_of_later_pasts(data, share, gap):
    made = splitting.by_time(data, share, gap)
    for window in made:
        first_held = data.at[window.holdout].min(initial=np.iinfo(np.int64).max)
        assert (first_held - data.at[window.past] > gap * SECONDS_A_DAY).all()
    for later, earlier in pairwise(made):
        assert not ((earlier.past | earlier.holdout) & ~later.past).any()


@settings(max_examples=100, deadline=None)
@given(histories(), st.sampled_from([0.05, 0.1, 0.25]))
def test_by_user_a_holdout_is_the_end_of_each_history_up_to_the_later_holdout(data, share):
    end = np.ones(len(data.user), bool)
    for window in splitting.by_user(data, share):
        assert np.array_equal(window.past | window.holdout, end)
        assert not (window.past & window.holdout).any()
        for user in range(data.shape[0]):
            past, held = (np.flatnonzero(part[data.user == user]) for part in
                          (window.past, window.holdout))  # fmt: skip
            assert past.tolist() == list(range(len(past)))  # so the rest comes after it
            n = len(past) + len(held)
            assert len(held) == (max(1, round(share * n)) if n >= 3 else 0)
        end = window.past


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--share", "0"], "--share is 0.0"),
        (["--share", "0.3"], "--share is 0.3"),
        (["--gap", "-1"], "--gap is -1.0"),
        (["--gap", "nan"], "--gap is nan"),
        (["--gap", "1", "--split", "user"], "--gap is for the time split"),
        (["--split", "time", "--gap", "400"], "without a past or a holdout"),
    ],
)
def test_what_cannot_be_cut_so_is_an_error(options, says, tmp_path):
    save_listens(tmp_path, people("share a clock and come back"))
    with pytest.raises(JobError, match=says):
        run("windows", tmp_path, *options)
    assert not (tmp_path / "windows").exists()


def test_small_windows_have_earlier_ones_before_them(tmp_path):
    save_listens(tmp_path, [(1 + day % 2, 7, day) for day in range(20)])
    run("windows", tmp_path, "--split", "time")
    for name, end in (("train2", 12), ("train3", 10)):
        past, held = (days(table, tmp_path, name) for table in (tables.LISTENS, tables.HOLDOUT))
        assert past == {1: [*range(0, end, 2)], 2: [*range(1, end, 2)]}
        assert held == {1: [end], 2: [end + 1]}
    # With a share of a fifth, no more than three windows leave half of the listens before them.
    run("windows", tmp_path, "--split", "time", "--share", "0.2")
    assert sorted(path.name for path in (tmp_path / "windows").iterdir()) == sorted(WINDOWS)


def test_large_windows_have_no_earlier_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(splitting, "LEARNED_USERS", 9)
    save_listens(tmp_path, [(1 + day % 3, 7, day) for day in range(30)])
    run("windows", tmp_path, "--split", "time")
    assert sorted(path.name for path in (tmp_path / "windows").iterdir()) == sorted(WINDOWS)


@settings(max_examples=100, deadline=None)
@given(histories(), st.sampled_from([0.05, 0.1]), st.sampled_from(["time", "user"]))
def test_earlier_windows_continue_the_series_and_leave_the_later_ones_as_they_were(
    data, share, split
):
    weights = np.ones(data.shape[0])
    first = splitting.by_time(data, share, 0) if split == "time" else splitting.by_user(data, share)
    choice = splitting.Choice(split, share, "", first)
    found = splitting.with_earlier(choice, data, 0, weights)
    assert 3 <= len(found) <= 5
    assert all(one is other for one, other in zip(found, first, strict=False))
    for later, earlier in pairwise(found):
        assert not ((earlier.past | earlier.holdout) & ~later.past).any()
