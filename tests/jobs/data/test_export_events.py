"""What the service saw becomes interactions, and the next run learns from it."""

import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.events.journal import Journal
from api.events.tombstones import Tombstones
from jobs.contract import tables
from jobs.contract.journal import JOURNAL_KEEPS
from jobs.contract.names import FORGOTTEN, JOURNAL, STATE
from jobs.contract.storage import JobError
from jobs.data.tombstones import noted
from tests.api.release.test_answers import client_of
from tests.support import releases, version_1
from tests.support.server import litestar_run
from tests.support.version_1 import IN_2026, IN_2150
from tests.support.workspace import lists, rows, run, run_line, save_input

TRACKS = range(10, 20)


@pytest.fixture
def journal(tmp_path):
    return Journal(tmp_path / STATE / JOURNAL)


def exported(work):
    return [(user, track) for user, track in rows(tables.EVENTS, work, "user_id", "track_id")]


def stored(work):
    with closing(sqlite3.connect(work / STATE / JOURNAL)) as db:
        return db.execute("SELECT user_id, track_id FROM events ORDER BY seq").fetchall()


def test_events_come_in_order_with_their_times_and_each_export_adds_the_new_ones(tmp_path, journal):
    before = datetime.now(UTC).replace(tzinfo=None)
    journal.append([(7, 10), (3, 11), (7, 10)])
    assert run("export_events", tmp_path).startswith("3 new events, 3 in ")
    assert exported(tmp_path) == [(7, 10), (3, 11), (7, 10)]
    times = [row[2] for row in rows(tables.EVENTS, tmp_path)]
    assert before <= times[0] < times[1] < times[2] <= datetime.now(UTC).replace(tzinfo=None)
    assert run("export_events", tmp_path).startswith("0 new events, 3 in ")
    journal.append([(3, 12)])
    assert run("export_events", tmp_path).startswith("1 new events, 4 in ")
    assert exported(tmp_path) == [(7, 10), (3, 11), (7, 10), (3, 12)]
    assert stored(tmp_path) == exported(tmp_path)  # few as they are, the service keeps them all


def test_only_what_is_exported_and_no_longer_among_a_user_s_last_is_dropped(tmp_path, journal):
    keeps = JOURNAL_KEEPS
    journal.append([(1, item) for item in range(keeps + 5)] + [(2, 1)])
    assert len(stored(tmp_path)) == keeps + 6  # an unexported event is never dropped
    assert "; 5 exported ones deleted" in run("export_events", tmp_path)
    assert stored(tmp_path) == [(1, item) for item in range(5, keeps + 5)] + [(2, 1)]
    assert len(exported(tmp_path)) == keeps + 6
    assert journal.last(1, 2) == [keeps + 3, keeps + 4]
    journal.append([(1, keeps + 5)])  # the service has it open all the while
    assert journal.last(1, keeps + 9) == [*range(5, keeps + 6)]


def test_a_folder_of_another_name_is_read_and_a_missing_journal_is_named(tmp_path):
    with pytest.raises(JobError, match=r"events\.db is missing: put events into the service"):
        run("export_events", tmp_path)
    Journal(tmp_path / "elsewhere" / JOURNAL).append([(1, 10)])
    run("export_events", tmp_path, "--state", tmp_path / "elsewhere")
    assert exported(tmp_path) == [(1, 10)]


@pytest.mark.parametrize("content", [b"", b"no journal" * 1000])
def test_what_is_no_journal_is_refused(tmp_path, content):
    path = tmp_path / STATE / JOURNAL
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(JobError, match=r"events\.db (can't be used|is a journal of version 0)"):
        run("export_events", tmp_path)
    assert not (tmp_path / tables.EVENTS.file).exists()


def test_prepare_takes_events_in_and_puts_aside_those_of_tracks_to_come(tmp_path, journal):
    data = save_input(tmp_path / "in", [(1, 10, 0), (1, 11, 1)], TRACKS)
    journal.append([(1, 12), (2, 10), (2, 999), (2, 11)])
    run("export_events", tmp_path)
    events = tmp_path / tables.EVENTS.file
    summary = run("prepare", tmp_path, "--data", data, "--max-bad-share", 0, "--events", events)
    assert "5 listens of 2 users and 3 tracks;" in summary
    assert "; 1 rows quarantined; of 4 events 3 were" in summary
    assert summary.endswith("0 were there already, 1 wait for tracks that tracks.parquet "
                            "doesn't know, 0 are bad")  # fmt: skip
    found = [(user, track, seq) for user, track, _, seq in rows(tables.LISTENS, tmp_path)]
    assert found == [(1, 10, 0), (1, 11, 1), (1, 12, 2), (2, 10, 1), (2, 11, 2)]
    assert [row[:3] for row in rows(tables.QUARANTINE, tmp_path)] == [
        ("events.parquet", 2, "track_id of an event is not in tracks.parquet yet")
    ]
    save_input(tmp_path / "in", [(1, 10, 0), (1, 11, 1)], [*TRACKS, 999])
    summary = run("prepare", tmp_path, "--data", data, "--events", events)
    assert "of 4 events 4 were taken in" in summary


def test_events_that_are_among_the_interactions_vanish_and_are_not_bad(tmp_path, journal):
    data = save_input(tmp_path / "in", [(1, 10, 0)], TRACKS)
    journal.append([(1, 12), (2, 10)])
    run("export_events", tmp_path)
    events = tmp_path / tables.EVENTS.file
    pq.write_table(pa.concat_tables([pq.read_table(events)] * 2), data / "interactions.parquet")
    summary = run("prepare", tmp_path, "--data", data, "--max-bad-share", 0.5, "--events", events)
    assert "2 listens of 2 users" in summary
    assert "of 2 events 0 were taken in, 2 were there already" in summary


def test_events_that_are_not_there_are_named(tmp_path):
    data = save_input(tmp_path / "in", [(1, 10, 0)], TRACKS)
    with pytest.raises(JobError, match=r"nothing is no file: run python -m jobs\.export_events"):
        run("prepare", tmp_path, "--data", data, "--events", tmp_path / "nothing")


def two_tastes():
    """Half of the users play tracks 100 … 139, among them user 7; the others 200 … 239."""
    rng = np.random.default_rng(1)
    users = [7, *range(100, 140)]
    return [
        (user, int(track) + (100 if i % 2 == 0 else 200), i + day / 20)
        for i, user in enumerate(users)
        for day, track in enumerate(rng.permutation(40)[:20])
    ]


def test_what_a_listener_plays_through_the_service_changes_their_next_offline_list(tmp_path):
    data = save_input(tmp_path / "in", two_tastes(), [*range(100, 140), *range(200, 240)], False)
    run_line(data, tmp_path, ["--tune", "off"], ["--split", "user"])
    before = lists(tables.RECOMMENDATIONS, tmp_path)
    played = [201, 205, 210, 215, 220]

    with litestar_run(tmp_path) as service:
        for user in (7, 999):
            for item in played:
                url = f"{service.url}/put_user_event?user_id={user}&item_id={item}"
                httpx.post(url).raise_for_status()
        run("export_events", tmp_path)
        events = tmp_path / tables.EVENTS.file
        run_line(data, tmp_path, ["--tune", "off"], ["--split", "user"], ["--events", events])
        httpx.get(f"{service.url}/load_recommendations").raise_for_status()
        served = httpx.get(f"{service.url}/recommendations?user_id=999").json()["recs"]

    after = lists(tables.RECOMMENDATIONS, tmp_path)
    of_second_taste = [sum(t >= 200 for t in table[7][:10]) for table in (before, after)]
    assert of_second_taste[0] < of_second_taste[1]
    assert 999 not in before
    assert sum(track >= 200 for track in after[999][:10]) > 5
    assert not {*played}.intersection(after[7] + after[999] + served)


def test_a_second_journal_is_not_mixed_with_the_first_and_loses_nothing(tmp_path, journal):
    other = Journal(tmp_path / "other" / JOURNAL)
    other.append([(1, item) for item in range(JOURNAL_KEEPS + 5)])
    journal.append([(7, 10)])
    run("export_events", tmp_path)
    with pytest.raises(JobError, match="holds events of another journal, the last from 20"):
        run("export_events", tmp_path, "--state", tmp_path / "other")
    assert exported(tmp_path) == [(7, 10)]
    with closing(sqlite3.connect(other.path)) as db:
        assert db.execute("SELECT count(*) FROM events").fetchone() == (JOURNAL_KEEPS + 5,)
    journal.append([(7, 11)])
    assert run("export_events", tmp_path).startswith("1 new events, 2 in ")


def test_an_export_without_events_is_nothing_to_take_in(tmp_path, journal):
    data = save_input(tmp_path / "in", [(1, 10, 0)], TRACKS)
    journal.append([(1, 12)])
    journal.forget(1, lambda newest, _: newest)
    run("export_events", tmp_path)
    events = tmp_path / tables.EVENTS.file
    summary = run("prepare", tmp_path, "--data", data, "--events", events)
    assert "of 0 events 0 were taken in" in summary


def at_clock(monkeypatch, at):
    monkeypatch.setattr(time, "time_ns", lambda: at * 1000)


def moment(at):
    return datetime.fromtimestamp(at / 1e6, UTC).isoformat()


def microseconds(moments):
    return [(each - datetime(1970, 1, 1)) // timedelta(microseconds=1) for each in moments]


@pytest.mark.parametrize("journal_mode", ["normal", "full"])
def test_one_event_of_2150_costs_no_event_and_nobody_stays_forgotten_until_then(
    tmp_path, monkeypatch, journal_mode
):
    releases.make(tmp_path)
    data = save_input(tmp_path / "in", [(1, 10, 0), (7, 11, 0)], TRACKS)
    events = tmp_path / tables.EVENTS.file
    with client_of(tmp_path, journal=journal_mode) as client:
        with monkeypatch.context() as patch:
            at_clock(patch, IN_2150)
            client.put(7, 10)
        client.put(7, *range(10, 20))
        client.put(2, *[10, 11] * 20)
        summary = run("export_events", tmp_path)
        assert summary.endswith("; 1 later than now were given their neighbours' time")
        summary = run("prepare", tmp_path, "--data", data, "--events", events)
        assert "of 51 events 51 were taken in, 0 were there already, 0 wait" in summary
        with monkeypatch.context() as patch:
            at_clock(patch, IN_2150)
            receipt = client.answer("/forget_user", "POST", user_id=7)
        assert receipt["events"] == 11
        assert receipt["forgotten_until"].startswith("2150")
        client.put(7, 12, 13)
        run("export_events", tmp_path)
        summary = run("prepare", tmp_path, "--data", data, "--events", events)
        assert "of 42 events 42 were taken in" in summary
        listens = rows(tables.LISTENS, tmp_path, "user_id", "track_id")
        assert [track for user, track in listens if user == 7] == [12, 13]
        client.answer("/forget_user", "POST", user_id=2)
        assert client.answer("/get_user_events", user_id=7) == {"events": [13, 12]}
    stored = Tombstones(tmp_path / STATE / FORGOTTEN)
    stored.read_new()
    assert stored.asked_at(2) / 1e6 <= time.time()
    assert noted(tmp_path) == stored.seq_of(7) < stored.seq_of(2)


@pytest.mark.parametrize("n_exported", [0, 1, 2, 30, 52])
def test_a_journal_and_a_file_of_version_1_are_continued_with_times_that_can_be_right(
    tmp_path, n_exported
):
    before = version_1.after_one_event_of_2150()
    version_1.journal(tmp_path / STATE / JOURNAL, before)
    if n_exported:
        version_1.exported(tmp_path / tables.EVENTS.file, before[:n_exported])
    summary = run("export_events", tmp_path, "--now", moment(IN_2026 + 3_600_000_000))
    assert summary.startswith(f"{52 - n_exported} new events, 52 in ")
    assert "; 51 later than now" in summary
    assert exported(tmp_path) == [(user, track) for _, user, track in before]
    assert rows(tables.EVENTS, tmp_path, "journal_seq") == [(at,) for at, _, _ in before]
    found = rows(tables.EVENTS, tmp_path, "started_at")
    assert [(at - found[0][0]) / timedelta(microseconds=1) for (at,) in found] == [*range(52)]
    Journal(tmp_path / STATE / JOURNAL).append([(7, 19)])
    summary = run("export_events", tmp_path)
    assert summary.startswith("1 new events, 53 in ") and "later" not in summary
    assert rows(tables.EVENTS, tmp_path, "started_at")[:-1] == found
    data = save_input(tmp_path / "in", [(1, 10, 0)], TRACKS)
    events = tmp_path / tables.EVENTS.file
    summary = run("prepare", tmp_path, "--data", data, "--events", events)
    assert "of 53 events 53 were taken in" in summary


def test_tombstones_of_version_1_cover_what_was_stored_before_them(tmp_path):
    before = version_1.after_one_event_of_2150()
    version_1.journal(tmp_path / STATE / JOURNAL, before)
    version_1.exported(tmp_path / tables.EVENTS.file, before[:30])
    version_1.forgotten(tmp_path / STATE / FORGOTTEN, {1: before[20][0], 7: before[-1][0]})
    run("export_events", tmp_path, "--now", moment(IN_2026))
    expected = [
        (user, track)
        for i, (_, user, track) in enumerate(before)
        if user != 7 and (user != 1 or i > 20)
    ]
    assert exported(tmp_path) == expected


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("put"),
            st.sampled_from([IN_2026, IN_2026 + 5, IN_2026 + 9_000_000, IN_2150, IN_2150 + 7]),
            st.lists(st.tuples(st.integers(1, 3), st.integers(10, 12)), min_size=1, max_size=4),
        ),
        st.tuples(st.just("forget"), st.sampled_from([IN_2026, IN_2150]), st.integers(1, 3)),
        st.tuples(st.just("export"), st.just(IN_2026), st.none()),
    ),
    max_size=12,
)


@settings(max_examples=25, deadline=None)
@given(steps=STEPS)
def test_whatever_the_clock_says_each_event_is_exported_once_in_order_at_a_time_that_can_be_right(
    steps,
):
    now = IN_2026 + 10_000_000
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        work = Path(folder)
        journal = Journal(work / STATE / JOURNAL)
        stored = Tombstones(work / STATE / FORGOTTEN)
        model = [(9, 10, IN_2026)]  # user, track, time, in the order of the puts
        at_clock(patch, IN_2026)
        journal.append([(9, 10)])
        for step, clock, what in [*steps, ("export", IN_2026, None)]:
            at_clock(patch, clock)
            if step == "put":
                journal.append(what)
                model += [(*event, clock + i) for i, event in enumerate(what)]
            elif step == "forget":
                journal.forget(what, partial(stored.add, what))
                model = [event for event in model if event[0] != what]
            else:
                run("export_events", work, "--now", moment(now))
                for i in range(1, len(model)):
                    if model[i][2] > now:
                        model[i] = (*model[i][:2], model[i - 1][2] + 1)
                found = tables.read(tables.EVENTS, work).to_pydict()
                columns = [found["user_id"], found["track_id"], microseconds(found["started_at"])]
                assert [*zip(*columns, strict=True)] == model
        journal.close()
