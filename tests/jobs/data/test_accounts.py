"""Accounts that are no listeners are found, listeners are not, and nobody else's lists change."""

from collections.abc import Callable
from datetime import datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.contract import storage, tables
from jobs.contract.names import CURRENT, WINDOWS
from jobs.data import accounts
from jobs.data.accounts import Habits
from jobs.metrics.accuracy import PER_USER
from tests.support.workspace import NOW, START, lists, rows, run, run_line, save_input

DAY, HOUR = 86_400, 3600
BOT = 999


Plays = tuple[np.ndarray, np.ndarray]  # tracks, and seconds


def habits_of(*plays: Plays) -> Habits:
    """The habits of accounts 0, 1, … with these plays, added in two parts."""
    found = Habits()
    for first in (0, len(plays) // 2):
        part = plays[first : len(plays) // 2 if first == 0 else None]
        if part:
            user = np.repeat(np.arange(first, first + len(part)), [len(t) for t, _ in part])
            order = [np.argsort(at, kind="stable") for _, at in part]
            track, at = (
                np.concatenate([own[i][o] for own, o in zip(part, order, strict=True)])
                for i in range(2)
            )
            found.add(user, track.astype(np.int64), at.astype(np.int64))
    return found


def people(n: int, seed: int) -> list[Plays]:
    """Listeners who play for some hours on some days, a track every three minutes or so."""
    rng = np.random.default_rng(seed)
    result = []
    for _ in range(n):
        day = rng.integers(0, 300, rng.integers(1, 8))
        at = day[:, None] * DAY + 18 * HOUR + np.cumsum(rng.integers(35, 400, (len(day), 20)), 1)
        result.append((rng.zipf(1.5, at.size) % 500, at.ravel() + rng.integers(0, 60)))
    return result


def heavy(seed: int) -> Plays:
    """A listener with 16,637 plays in a year: about 46 a day, some tracks over a hundred times."""
    rng = np.random.default_rng(seed)
    start = np.repeat(np.arange(365) * DAY + 8 * HOUR, 46)[:16_637]
    at = start + np.tile(np.cumsum(rng.integers(60, 400, 46)), 365)[: len(start)]
    return rng.zipf(1.3, len(at)) % 3000, at


# Bots that play at a rate: n plays of some tracks, from a moment on. Each returns the seconds.
RATES: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "one a second for two hours": lambda rng: np.arange(7200),
    "all at one moment": lambda rng: np.zeros(rng.integers(700, 5000)),
    "every five seconds for an hour": lambda rng: np.arange(0, HOUR, 5),
    "every 29 seconds for weeks": lambda rng: np.arange(0, rng.integers(3, 20) * DAY, 29),
    "at random moments of a week": lambda rng: rng.uniform(0, 7 * DAY, 50_000),
    "at random moments of a day": lambda rng: rng.uniform(0, DAY, 6000),
    "in bursts on the hour": lambda rng: np.repeat(np.arange(48) * HOUR, 200),
    "at night only": lambda rng: np.concatenate(
        [n * DAY + np.sort(rng.uniform(0, 5 * HOUR, 4000)) for n in range(3)]
    ),
    "in ten streams at once": lambda rng: np.repeat(np.arange(0, DAY, 240), 10),
    "a thousand in ten minutes": lambda rng: rng.uniform(0, 600, 1000),
    "for one day after a quiet year": lambda rng: np.append(
        np.arange(365) * DAY, 370 * DAY + np.arange(0, DAY, 20)
    ),
    "with jitter every ten seconds": lambda rng: np.arange(5000) * 10 + rng.uniform(0, 9, 5000),
}  # fmt: skip


# Bots that play one track over and over: each returns the tracks; the plays are hours apart.
REPEATS: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "nothing else": lambda rng: np.full(150, 7),
    "a hundred times": lambda rng: np.full(100, 7),
    "fifty thousand times": lambda rng: np.full(50_000, 7),
    "after some real plays": lambda rng: np.append(rng.integers(0, 500, 40), np.full(200, 7)),
    "before some real plays": lambda rng: np.append(np.full(200, 7), rng.integers(0, 500, 40)),
    "with another one as every fifth": lambda rng: np.where(np.arange(400) % 5 == 4, 8, 7),
    "with a different one as every fifth": lambda rng: np.where(
        np.arange(400) % 5 == 4, np.arange(400) + 100, 7
    ),
    "with others at random": lambda rng: np.where(
        rng.random(1000) < 0.15, rng.integers(0, 500, 1000), 7
    ),
    "in runs of ten": lambda rng: np.where(np.arange(600) % 12 < 10, 7, np.arange(600) + 100),
    "three times out of four": lambda rng: np.where(np.arange(400) % 4 == 3, np.arange(400), 700),
    "with a pause in the middle": lambda rng: np.concatenate(
        [np.full(100, 7), rng.integers(0, 500, 30), np.full(100, 7)]
    ),
}


@given(st.sampled_from(sorted(RATES)), st.integers(0, 10**6), st.integers(0, 300))
def test_a_rate_that_no_person_can_hear_is_found(kind, seed, day):
    rng = np.random.default_rng(seed)
    at = np.sort(RATES[kind](rng)).astype(np.int64) + day * DAY + 11
    bot = rng.integers(0, 500, len(at)), at
    found = habits_of(*people(150, seed), bot)
    assert found.judges_rates
    assert set(found.suspicious()) == {150}
    reason, plays = found.suspicious()[150]
    if "within" in reason:
        seconds, most = (DAY, accounts.PLAYS_A_DAY) if "24" in reason else (HOUR, 600)
        windows = [np.count_nonzero((at >= t) & (at < t + seconds)) for t in at[:: len(at) // 50]]
        assert plays > most and plays >= max(windows)


@given(st.sampled_from(sorted(REPEATS)), st.integers(0, 10**6), st.sampled_from([DAY, HOUR, 200]))
def test_one_track_over_and_over_is_found_whatever_the_times(kind, seed, apart):
    track = REPEATS[kind](np.random.default_rng(seed))
    found = habits_of(*people(150, seed), (track, np.arange(len(track)) * apart))
    assert set(found.suspicious()) == {150}
    reason, plays = found.suspicious()[150]
    assert (reason, plays) == (accounts.ONE_TRACK, np.unique(track, return_counts=True)[1].max())


@given(st.integers(0, 10**6))
def test_a_listener_of_16637_plays_a_year_is_a_listener(seed):
    found = habits_of(*people(150, seed), heavy(seed))
    assert found.judges_rates
    assert found.suspicious() == {}


SETS: dict[str, Callable[[np.random.Generator], np.ndarray]] = {  # seconds of 3,000 plays of one
    "ratings given one after the other": lambda rng: np.cumsum(rng.exponential(25, 3000)),
    "baskets of a shop": lambda rng: np.repeat(rng.integers(0, 300, 30) * DAY + 17, 100),
    "dates": lambda rng: rng.integers(0, 2, 3000) * DAY,
    "whole hours": lambda rng: rng.integers(0, 24, 3000) * HOUR,
    "whole minutes": lambda rng: rng.integers(0, 1000, 3000) * 60,
}


@pytest.mark.parametrize("kind", SETS)
def test_rates_are_not_judged_where_times_are_not_those_of_plays(kind):
    rng = np.random.default_rng(0)
    sets = [(rng.integers(0, 10**6, 3000), SETS[kind](rng)) for _ in range(30)]
    fast = rng.integers(0, 10**6, 9000), np.arange(9000)
    found = habits_of(*sets, fast)
    assert not found.judges_rates
    assert found.suspicious() == {}


def test_where_many_accounts_are_suspicious_nobody_is_left_out_and_that_is_said():
    bot = np.full(120, 7), np.arange(120) * HOUR
    for n, too_many in ((2, False), (3, True)):
        found = habits_of(*people(200, 1), *[bot] * n)
        assert len(found.suspicious()) == n
        assert found.too_many() == too_many
        assert found.table(accounts.LEAVE_OUT)["left_out"].to_pylist() == [not too_many] * n
        assert ("none is left out" in found.sentence(accounts.LEAVE_OUT)) == too_many
    assert habits_of(*people(18, 1), bot).too_many()
    assert not habits_of(*people(19, 1), bot).too_many()


def test_the_accounts_that_are_kept_count_as_all_others():
    found = habits_of(*people(150, 1), (np.full(120, 7), np.arange(120) * HOUR))
    assert found.table(accounts.KEEP).to_pylist() == [
        {"user_id": 150, "reason": accounts.ONE_TRACK, "value": 120, "left_out": False}
    ]
    assert "1 of 151 accounts plays" in found.sentence(accounts.KEEP)
    assert habits_of(*people(150, 1)).sentence(accounts.KEEP) == ""


def town(bot: int = 0, n: int = 120) -> list[tuple[int, int, float]]:
    """n listeners of two tastes for 100 days; on the 96th day a bot plays track 150 so often.

    One listener plays that track once, too.
    """
    rng = np.random.default_rng(3)
    found = [
        (user, int(track) + 40 * (user % 2), float(day))
        for user in range(n)
        for track, day in zip(rng.permutation(40)[:22], rng.uniform(0, 100, 22), strict=True)
    ]
    own = [(BOT, track, 95.0 + track / 10) for track in range(5) if bot]
    return found + [(0, 150, 50.0)] + own + [(BOT, 150, 96 + i / max(bot, 1)) for i in range(bot)]


TRACKS = [*range(80), *range(140, 151)]


@pytest.fixture(scope="module")
def with_and_without(tmp_path_factory):
    """The same town run without a bot and with one."""
    result = []
    for bot in (0, 3000):
        folder = tmp_path_factory.mktemp(f"bot{bot}")
        run_line(save_input(folder / "in", town(bot), TRACKS), folder, ["--tune", "off"])
        result.append(folder)
    return result


def test_a_bot_changes_nobodys_lists_and_gets_a_list_of_its_own(with_and_without):
    clean, work = with_and_without
    for table in (tables.TOP_POPULAR, tables.NEXT_PLAYED):
        assert rows(table, clean) == rows(table, work)
    for name in (tables.SIMILAR, tables.PERSONAL_ALS, tables.RECOMMENDATIONS):
        found = lists(name, work)
        if name != tables.SIMILAR:
            assert len(found.pop(BOT)) > 10
        assert found == lists(name, clean)


def test_the_report_of_a_run_with_a_bot_is_that_without_it(with_and_without):
    found = [storage.read_json(work / "metrics.json", "jobs.evaluate") for work in with_and_without]
    scores = [  # the other metrics count the bot's track where it is new
        [of_kind["@10"][metric] for kinds in metrics["lists"].values()
         for of_kind in kinds.values() for metric in PER_USER]
        for metrics in found
    ]  # fmt: skip
    assert scores[0] == scores[1]
    assert found[0]["window"]["users"] == found[1]["window"]["users"]
    for name in WINDOWS:
        holdouts = [rows(tables.HOLDOUT, work / "windows" / name) for work in with_and_without]
        assert [row[:3] for row in holdouts[0]] == [row[:3] for row in holdouts[1]]


def test_suspicious_accounts_are_named_on_the_page_but_in_no_release(with_and_without):
    clean, work = with_and_without
    summary = run("explore", work)
    assert "described" in summary
    page = (work / "report" / "explore.html").read_text()
    assert "<td" in page and str(BOT) in page and "more than a person can hear" in page
    run("explore", clean)
    assert "No account was found" in (clean / "report" / "explore.html").read_text()
    assert [row[0] for row in rows(tables.SUSPICIOUS, work)] == [BOT]
    released = [path.name for path in (work / CURRENT / ".").rglob("*")]
    assert "listens.parquet" in released and tables.SUSPICIOUS.file not in released


def test_prepare_counts_suspicious_accounts_in_a_warning(tmp_path, capsys):
    data = save_input(tmp_path / "in", town(3000), TRACKS)
    run("prepare", tmp_path, "--data", data, "--now", NOW)
    assert "1 of 121 accounts plays unlike a listener; it is left out" in capsys.readouterr().err
    assert [row[3] for row in rows(tables.SUSPICIOUS, tmp_path)] == [True]
    run("prepare", tmp_path, "--data", data, "--now", NOW, "--suspicious", "keep")
    assert "it counts as all others" in capsys.readouterr().err
    assert [row[3] for row in rows(tables.SUSPICIOUS, tmp_path)] == [False]
    run("windows", tmp_path, "--split", "time", "--suspicious", "keep")
    held = rows(tables.HOLDOUT, tmp_path / "windows" / "test", "user_id")
    assert (BOT,) in held
    run("top_popular", tmp_path)
    top = {row[0]: row for row in rows(tables.TOP_POPULAR, tmp_path)}
    assert top[150][3:] == (2, 3001)  # listeners, plays


def test_a_windows_past_depends_on_what_is_suspicious_in_it_alone(tmp_path):
    """An account that turns into a bot on the last day is one like others in the windows before.

    One that was a bot in the first days is left out of all. All that comes after the cut changes.
    """
    early = [(BOT + 1, 149, i / 2000) for i in range(1000)]
    first = [(BOT, track, 1.5) for track in range(140, 145)]
    before = [*town(n=240), *early, *first]
    folders = [tmp_path / "a", tmp_path / "b"]
    windows(folders[0], [*before, *((BOT, 150, 99 + i / 3000) for i in range(3000))])
    moment = datetime.fromisoformat(split_of(folders[0])["cut"]).replace(tzinfo=None)
    cut = (moment - START).total_seconds() / DAY
    other = [(u, track if day < cut else (track * 7 + 3) % 80, day) for u, track, day in before]
    windows(folders[1], [*other, *((BOT, i % 80, 99 + i / 3000) for i in range(3000))])
    for name in WINDOWS:
        one, two = (folder / "windows" / name for folder in folders)
        for file in (tables.LISTENS, tables.USERS, tables.SUSPICIOUS):
            assert (one / file.file).read_bytes() == (two / file.file).read_bytes()
        users = [user for (user,) in rows(tables.USERS, one, "user_id")]
        assert BOT in users and BOT + 1 not in users
        assert rows(tables.SUSPICIOUS, one, "user_id") == [(BOT + 1,)]
        assert (BOT,) not in rows(tables.HOLDOUT, one, "user_id")
    held = [rows(tables.HOLDOUT, folder / "windows" / "test") for folder in folders]
    assert held[0] != held[1]
    assert rows(tables.SUSPICIOUS, folders[0], "user_id") == [(BOT,), (BOT + 1,)]


def windows(work, played) -> None:
    """Prepare a folder with these listens, and cut them by time."""
    data = save_input(work / "in", played, TRACKS)
    run("prepare", work, "--data", data, "--now", NOW)
    run("windows", work, "--split", "time")


def split_of(work) -> dict:
    return storage.read_json(work / "windows" / "test" / "split.json", "jobs.windows")
