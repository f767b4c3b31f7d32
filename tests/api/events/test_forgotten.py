"""A user who asked to be forgotten is new: in answers, in what is stored, in the next release."""

import asyncio
import json
import re
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from unittest.mock import Mock

import httpx
import pyarrow.parquet as pq
import pytest

from api.events.journal import Journal, JournalError
from api.events.journaled_store import JournaledStore
from api.events.tombstones import Tombstones
from jobs.contract import storage, tables
from jobs.contract.journal import read_forgotten
from jobs.contract.names import FORGOTTEN, FORGOTTEN_UNTIL, JOURNAL, MANIFEST, RELEASES, STATE
from jobs.data.tombstones import noted
from tests.api.release.test_answers import client_of
from tests.jobs.data.test_export_events import two_tastes
from tests.support import releases
from tests.support.server import litestar_run
from tests.support.waiting import until, wait_until
from tests.support.workspace import START, lists, rows, run, run_line, save_input

SOMEONE = 7_654_321_012_345  # an id whose bytes stand nowhere by chance
TRACKS = range(10, 20)


def tombstones(work, *users):
    stored = Tombstones(work / STATE / FORGOTTEN)
    return [stored.add(user) for user in users]


def traces(folder):
    """Files below a folder that hold the id, as SQLite, NumPy, pyarrow or a text would store it."""
    forms = [SOMEONE.to_bytes(8, "little"), SOMEONE.to_bytes(6, "big"), str(SOMEONE).encode()]
    return {
        path.name
        for path in folder.rglob("*")
        if path.is_file()
        and (
            any(form in path.read_bytes() for form in forms)
            or (path.suffix == ".parquet" and _in_columns(path))
        )
    }


def _in_columns(path):
    table = pq.read_table(path)
    named = [name for name in table.schema.names if name in ("user_id", "content")]
    return any(str(SOMEONE) in str(value) for name in named for value in table[name].to_pylist())


@pytest.mark.parametrize("journal", ["off", "normal", "full"])
def test_a_forgotten_user_is_answered_as_a_new_one_until_they_come_back(tmp_path, journal):
    releases.make(tmp_path, "second")
    releases.make(tmp_path)
    with client_of(tmp_path, journal=journal) as client:
        client.put(47, 5, 6, 7)
        client.answer("/recommendations", user_id=47)
        receipt = client.answer("/forget_user", "POST", user_id=47)
        assert receipt["user_id"] == 47
        assert datetime.fromisoformat(receipt["forgotten_until"]) <= datetime.now(UTC)
        assert (receipt["events"], receipt["final_list"], receipt["history"]) == (3, 100, 3)
        again = client.answer("/forget_user", "POST", user_id=47)
        assert (again["events"], again["final_list"], again["history"]) == (0, 0, 0)
    for release in ("first", "second"):
        with client_of(tmp_path, journal=journal) as client:
            client.answer("/load_recommendations", release=release)
            for call in ("/recommendations", "/get_online_u2i", "/get_user_events"):
                assert client.answer(call, user_id=47) == client.answer(call, user_id=9)
            assert client.answer("/get_statistics")["request_personal_count"] == 0
            client.put(47, 50)
            assert client.answer("/get_user_events", user_id=47, k=1) == {"events": [50]}
            assert client.answer("/recommendations", user_id=47)["recs"][0] == 51
            client.answer("/forget_user", "POST", user_id=47)


def test_a_release_made_since_then_knows_what_they_did_later(tmp_path):
    releases.make(tmp_path)
    (until,) = tombstones(tmp_path, 47)
    newer = releases.make(tmp_path, "newer", activate=False)
    manifest = json.loads((newer / MANIFEST).read_text())
    for obeys, first in ((until - 1, 1), (until, 200)):
        manifest["forgotten_until"] = obeys
        (newer / MANIFEST).write_text(json.dumps(manifest))
        with client_of(tmp_path) as client:
            assert client.answer("/recommendations", user_id=47)["recs"][0] == 1
            client.answer("/load_recommendations", release="newer")
            assert client.answer("/recommendations", user_id=47)["recs"][0] == first


def test_nothing_of_their_events_stays_in_the_journal_and_those_of_others_do(tmp_path):
    path = tmp_path / JOURNAL
    journal = Journal(path)
    for item in range(3000):
        journal.append([(SOMEONE if item % 3 == 0 else 8, item)])
    journal.checkpoint()
    journal.append([(SOMEONE, 1)])
    assert traces(tmp_path)
    assert journal.forget(SOMEONE, lambda newest, _: newest) == 1001
    assert traces(tmp_path) == set()
    assert len(journal.last(8, 5000)) == 2000
    journal.append([(SOMEONE, 4)])
    assert Journal(path).last(SOMEONE, 9) == [4]


def test_order_goes_on_from_a_tombstone_even_if_the_clock_goes_back(tmp_path, monkeypatch):
    journal, stored = Journal(tmp_path / "events.db"), Tombstones(tmp_path / "forgotten.db")
    journal.append([(7, 1)])
    (newest,) = closing_query(tmp_path / "events.db", "SELECT max(seq) FROM events")
    journal.forget(7, partial(stored.add, 7))
    assert stored.until[7] >= newest
    monkeypatch.setattr(time, "time_ns", lambda: 1_000_000)
    journal.append([(7, 2)])
    seq, at = closing_query(tmp_path / "events.db", "SELECT seq, at FROM events")
    assert (seq > stored.until[7], at) == (True, 1000)
    assert stored.add(8) > stored.until[7]


def test_the_time_of_a_tombstone_is_the_clock_s_but_not_before_the_user_s_last_event(
    tmp_path, monkeypatch
):
    journal, stored = Journal(tmp_path / "events.db"), Tombstones(tmp_path / "forgotten.db")
    now, hour, day = 1_700_000_000_000_000, 3_600_000_000, 86_400_000_000
    clock = Mock()
    monkeypatch.setattr(time, "time_ns", clock)
    for user, event_at, expected in (
        (1, now - day, now),
        (2, now + hour, now + hour),  # the clock was put back by an hour: the event was before
        (3, now + 2 * day, now),  # the event was stored by a wrong clock
        (4, None, now),
    ):
        if event_at:
            clock.return_value = event_at * 1000
            journal.append([(user, 10)])
        clock.return_value = now * 1000
        journal.forget(user, partial(stored.add, user))
        assert stored.asked_at(user) == expected
    assert sorted(stored.until.values()) == [stored.until[user] for user in (1, 2, 3, 4)]


def test_events_of_a_new_journal_come_after_the_tombstones_of_a_lost_one(tmp_path, monkeypatch):
    tombstones = Tombstones(tmp_path / FORGOTTEN)
    tombstones.add(7, 2**60)

    async def ask(other):
        store = JournaledStore(Journal(tmp_path / JOURNAL), tombstones, 10, 10)
        await store.start()
        await store.put(7, 1)
        Tombstones(tombstones.path).add(8)
        for file in tmp_path.glob(f"{JOURNAL}*"):
            file.unlink()
        store.drop(tombstones.read_new())
        with pytest.raises(JournalError):
            await store.put(8, 0)
        await store.put(8, 2)
        assert store.of(8) == [2]
        await store.stop()

    asyncio.run(ask(tombstones))
    Journal(tmp_path / JOURNAL).finish_forgetting(tombstones.until)
    assert Journal(tmp_path / JOURNAL).last(8, 9, tombstones.seq_of(8)) == [2]


def closing_query(path, query):
    with closing(sqlite3.connect(path)) as db:
        return db.execute(query).fetchone()


def test_nor_does_another_process_go_back_before_a_tombstone(tmp_path, monkeypatch):
    path, clock = tmp_path / "events.db", Mock(return_value=20_000_000)
    monkeypatch.setattr(time, "time_ns", clock)
    one, other = Journal(path), Journal(path)
    other.append([(1, 1)])
    one.append([(7, 1)])
    clock.return_value = 15_000_000
    one.forget(7, lambda newest, _: newest)
    other.append([(7, 2)])
    assert closing_query(path, "SELECT seq FROM events WHERE user_id = 7")[0] > 20_001


def test_what_is_read_for_long_leaves_the_log_once_it_can(tmp_path):
    path = tmp_path / JOURNAL
    journal = Journal(path)
    journal.append([(SOMEONE, item) for item in range(20)])
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN")
        other.execute("SELECT * FROM events").fetchall()
        assert journal.forget(SOMEONE, lambda newest, _: newest) == 20
        assert journal.log_holds_forgotten
        journal.checkpoint()
        assert journal.log_holds_forgotten and traces(tmp_path)
    journal.checkpoint()
    assert not journal.log_holds_forgotten and not traces(tmp_path)


def test_puts_go_on_while_what_a_crash_left_undone_is_done(tmp_path):
    path = tmp_path / JOURNAL
    Journal(path).append([(7, 1), (8, 1)])

    async def ask():
        tombstones = Tombstones(tmp_path / FORGOTTEN)
        tombstones.add(7, 2**60)
        store = JournaledStore(Journal(path), tombstones, 10, 10)
        with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
            other.execute("BEGIN IMMEDIATE")
            asyncio.get_running_loop().call_later(1, other.execute, "COMMIT")
            await store.start()
            assert store.status == "ok"
            await asyncio.gather(*(store.put(9, item) for item in range(3)))
            expected = [[], [1], [2, 1, 0]]
            await until(lambda: [store.of(user) for user in (7, 8, 9)] == expected)
        await store.stop()

    asyncio.run(ask())


def test_old_events_of_a_forgotten_user_are_not_read_while_a_crashed_forgetting_is_finished(
    tmp_path,
):
    path = tmp_path / JOURNAL
    Journal(path).append([(7, 1), (8, 1), (9, 1)])
    tombstones = Tombstones(tmp_path / FORGOTTEN)
    for user in (7, 8, 9):
        tombstones.add(user)
    Journal(path).append([(8, 2)])

    async def ask():
        store = JournaledStore(Journal(path), tombstones, 10, 10)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")  # so that the old events are still there
            await store.start()
            assert [store.of(user) for user in (7, 8)] == [[], [2]]
            put = store.put(9, 3)
            other.execute("COMMIT")
            await put
            assert [store.of(user) for user in (7, 8, 9)] == [[], [2], [3]]
        await store.stop()

    asyncio.run(ask())


def test_who_is_forgotten_stays_so_after_a_kill_in_the_midst_of_a_tombstone(tmp_path):
    releases.make(tmp_path)
    with client_of(tmp_path, journal="normal") as client:
        client.answer("/forget_user", "POST", user_id=47)
        assert client.answer("/recommendations", user_id=47)["recs"][0] == 1
    path = tmp_path / STATE / FORGOTTEN
    half_a_commit = f"""
import os, signal, sqlite3
db = sqlite3.connect({str(path)!r}, isolation_level=None)
db.execute("PRAGMA cache_size = 1")
db.execute("BEGIN IMMEDIATE")
db.executemany("INSERT OR REPLACE INTO forgotten VALUES (?, 1, 1)", ([i] for i in range(47, 3000)))
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", half_a_commit], check=False)
    assert path.with_name(f"{path.name}-journal").stat().st_size
    with client_of(tmp_path, journal="normal") as client:
        assert client.answer("/recommendations", user_id=47)["recs"][0] == 1
    assert read_forgotten(path).keys() == {47}


def test_nothing_is_served_until_it_is_known_who_is_forgotten(tmp_path):
    releases.make(tmp_path)
    tombstones(tmp_path, 47)
    path = tmp_path / STATE / FORGOTTEN
    content = path.read_bytes()
    path.write_text("no database" * 200)
    with client_of(tmp_path, journal="normal") as client:
        refused = client.get("/recommendations?user_id=47")
        assert refused.status_code == 503
        assert "forgotten.db can't be read" in refused.json()["detail"]
        path.write_bytes(content)
        wait_until(lambda: client.get("/health/ready").status_code == 200)
        assert client.answer("/recommendations", user_id=47)["recs"][0] == 1
        path.write_text("no database")
        # Who was forgotten before is known, but not who will be elsewhere.
        problem = "forgotten.db can't be read"
        wait_until(lambda: problem in client.answer("/health/ready")["journal"])
        assert client.answer("/recommendations", user_id=47)["recs"][0] == 1
    path.write_bytes(b"")  # a crash before the first tombstone
    assert read_forgotten(path) == {}


def test_what_a_crash_left_undone_is_done_at_the_next_start(tmp_path):
    releases.make(tmp_path)
    with client_of(tmp_path, journal="normal") as client:
        client.put(47, 5)
        client.put(9, 6)
    tombstones(tmp_path, 47)  # and no more
    with client_of(tmp_path, journal="normal") as client:
        assert client.answer("/get_user_events", user_id=47) == {"events": []}
        assert client.answer("/get_user_events", user_id=9) == {"events": [6]}


def test_other_processes_forget_as_well(tmp_path):
    releases.make(tmp_path)
    with litestar_run(tmp_path) as one, litestar_run(tmp_path) as other:

        def call(service, path, **params):
            answer = httpx.post(service.url + path, params={"user_id": 47, **params})
            return answer.raise_for_status().json()

        call(other, "/put_user_event", item_id=5)
        assert call(other, "/recommendations")["recs"][0] == 6
        call(one, "/forget_user")
        wait_until(lambda: call(other, "/recommendations")["recs"][0] == 1)
        assert call(other, "/get_user_events") == {"events": []}
    log = (tmp_path / "service.log").read_text()
    assert not re.findall(r"(?<!\[)\b47\b", log)  # [47] would be a process


def test_without_a_tombstone_on_the_disk_nobody_counts_as_forgotten(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match="can't be written"):
        Tombstones(tmp_path / "file" / FORGOTTEN).add(7)


def test_the_next_run_leaves_out_what_came_before_and_keeps_what_came_later(tmp_path):
    late = (datetime.now() - START) / timedelta(days=1) + 2
    listens = [(SOMEONE, 10, 0), (SOMEONE, 11, 1), (8, 10, 0), (SOMEONE, 99, 0), (8, 98, 0)]
    data = save_input(tmp_path / "in", [*listens, (SOMEONE, 12, late)], TRACKS)
    in_three_days = (datetime.now() + timedelta(days=3)).isoformat()
    options = ["--data", data, "--max-bad-share", 0.5, "--now", in_three_days, "--far", "inf"]
    run("prepare", tmp_path, *options)
    assert traces(tmp_path) > {"listens.parquet", "users.parquet", "quarantine.parquet"}
    (until,) = tombstones(tmp_path, SOMEONE)
    summary = run("prepare", tmp_path, *options)
    assert "; 3 listens of forgotten users left out" in summary
    kept = rows(tables.LISTENS, tmp_path, "user_id", "track_id")
    assert kept == [(8, 10), (SOMEONE, 12)]
    assert rows(tables.QUARANTINE, tmp_path, "row") == [(4,)]
    assert noted(tmp_path) == until


def test_the_tombstones_may_stand_in_another_folder_and_without_any_no_date_is_noted(tmp_path):
    data = save_input(tmp_path / "in", [(7, 10, 0), (8, 10, 0)], TRACKS)
    tombstones(tmp_path / "elsewhere", 7)
    named = tmp_path / "elsewhere" / STATE / FORGOTTEN
    run("prepare", tmp_path, "--data", data, "--forgotten", named)
    assert rows(tables.USERS, tmp_path, "user_id") == [(8,)]
    assert (tmp_path / FORGOTTEN_UNTIL).exists()
    run("prepare", tmp_path, "--data", data)
    assert not (tmp_path / FORGOTTEN_UNTIL).exists()
    with pytest.raises(storage.JobError, match="is no file"):
        run("prepare", tmp_path, "--data", data, "--forgotten", tmp_path / "nothing")
    tombstones(tmp_path, 7, 8)
    with pytest.raises(storage.JobError, match="is of a user who asked to be forgotten"):
        run("prepare", tmp_path, "--data", data)


def test_exported_events_of_theirs_leave_the_file_at_the_next_export(tmp_path):
    journal = Journal(tmp_path / STATE / JOURNAL)
    journal.append([(SOMEONE, 10), (8, 10)])
    run("export_events", tmp_path)
    (until,) = tombstones(tmp_path, SOMEONE)
    journal.finish_forgetting({SOMEONE: until})
    journal.append([(SOMEONE, 11)])
    run("export_events", tmp_path)
    assert rows(tables.EVENTS, tmp_path, "user_id", "track_id") == [(8, 10), (SOMEONE, 11)]


def test_after_a_restart_and_a_new_run_there_is_no_trace_of_a_forgotten_user(tmp_path):
    listens = [(SOMEONE if user == 7 else user, *rest) for user, *rest in two_tastes()]
    data = save_input(tmp_path / "in", listens, [*range(100, 140), *range(200, 240)], False)
    options = (["--tune", "off"], ["--split", "user"])
    work = tmp_path / "work"
    run_line(data, work, *options)
    events = work / tables.EVENTS.file

    def ask(service, path, user=SOMEONE, **params):
        answer = httpx.post(service.url + path, params={"user_id": user, **params})
        return answer.raise_for_status().json()

    with litestar_run(work) as service:
        for item in (201, 205):
            ask(service, "/put_user_event", item_id=item)
        ask(service, "/put_user_event", 999, item_id=201)
        run("export_events", work)
        ask(service, "/put_user_event", item_id=210)
        receipt = ask(service, "/forget_user")
    assert (receipt["events"], receipt["history"]) == (3, 20)
    assert traces(work / STATE) == set()

    with litestar_run(work) as service:
        assert ask(service, "/get_user_events") == {"events": []}
        assert ask(service, "/recommendations") == ask(service, "/recommendations", 12345)
        run("export_events", work)
        old = {path.name for path in (work / RELEASES).iterdir()}
        run_line(data, work, *options, ["--events", events], last="replay")
        run("publish", work, "--force")  # the few users of this test do not measure anything
        httpx.get(f"{service.url}/load_recommendations").raise_for_status()
        assert ask(service, "/recommendations") == ask(service, "/recommendations", 12345)
        ask(service, "/put_user_event", item_id=220)
        assert ask(service, "/get_user_events") == {"events": [220]}
    (new,) = {path.name for path in (work / RELEASES).iterdir()} - old
    assert traces(work / RELEASES / new) == set()
    # what is left stands in the old release; the event that came later stands in the journal
    left = traces(work) - {JOURNAL, f"{JOURNAL}-wal"}
    assert left == traces(work / RELEASES / old.pop())
    assert 999 in lists(tables.RECOMMENDATIONS, work)
