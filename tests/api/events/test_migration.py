"""A journal and tombstones of version 1 become version 2 whole or not at all, and lose nothing."""

import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from functools import partial

import pytest

from api.events.journal import Journal, JournalError
from api.events.tombstones import Tombstones
from jobs.contract.journal import Tombstone, read_forgotten
from jobs.contract.names import FORGOTTEN, JOURNAL
from tests.support import version_1
from tests.support.version_1 import IN_2026, IN_2150

EVENTS = version_1.after_one_event_of_2150()

# for each folder a process that upgrades both files, and is killed before its nth statement
KILLED = """
import os, signal, sqlite3, sys
from jobs.contract import journal

def upgrade(left, events, forgotten):
    def trace(statement):
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    for path in (events, forgotten):
        db = sqlite3.connect(path, isolation_level=None)
        db.set_trace_callback(trace)
        if path == events:
            journal.upgrade_journal(db)
        else:
            db.execute("BEGIN IMMEDIATE")
            journal.upgrade_forgotten(db)
            db.execute("COMMIT")

for n, folder in enumerate(sys.argv[1:], 1):
    if not (process := os.fork()):
        upgrade(n, f"{folder}/events.db", f"{folder}/forgotten.db")
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
"""
APPENDS = """
import sys
from pathlib import Path
from api.events.journal import Journal
journal = Journal(Path(sys.argv[1]))
user = int(sys.argv[2])
for item in range(20):
    journal.append([(user, item)], timeout=20)
"""


def rows(path):
    with closing(sqlite3.connect(path)) as db:
        return db.execute(
            "SELECT seq, user_id, track_id, coalesce(at, seq) FROM events ORDER BY seq"
        ).fetchall()


def version(path):
    with closing(sqlite3.connect(path)) as db:
        return db.execute("PRAGMA user_version").fetchone()[0]


def test_events_keep_their_order_and_later_ones_get_the_time_of_the_clock(tmp_path):
    path = tmp_path / JOURNAL
    version_1.journal(path, EVENTS)
    journal = Journal(path)
    assert journal.users().tolist() == [0, 1, 2, 3, 4, 7]
    assert journal.last(7, 9) == [11]
    before = time.time_ns() // 1000
    journal.append([(7, 12)])
    assert rows(path)[:-1] == [(at, user, track, at) for at, user, track in EVENTS]
    seq, user, track, at = rows(path)[-1]
    assert (seq, user, track) == (EVENTS[-1][0] + 1, 7, 12)
    assert before <= at <= time.time_ns() // 1000
    assert Journal(path).last(7, 9) == [11, 12]


def test_the_seq_of_forgotten_events_is_not_used_again(tmp_path):
    path = tmp_path / JOURNAL
    version_1.journal(path, [], forgotten_until=IN_2150)
    Journal(path).append([(7, 12)])
    assert rows(path)[0][0] == IN_2150 + 1


def test_a_kill_at_any_moment_leaves_version_1_or_2_and_the_next_start_goes_on(tmp_path):
    folders = [tmp_path / str(n) for n in range(1, 26)]
    for folder in folders:
        version_1.journal(folder / JOURNAL, EVENTS)
        version_1.forgotten(folder / FORGOTTEN, {8: IN_2150, 9: IN_2026})
    command = [sys.executable, "-c", KILLED, *map(str, folders)]
    codes = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert codes == sorted(codes) and (codes[0], codes[-1]) == ("-9", "0")
    seen = set()
    for folder in folders:
        versions = version(folder / JOURNAL), version(folder / FORGOTTEN)
        seen.add(versions)
        expected = {8: Tombstone(IN_2150, IN_2150), 9: Tombstone(IN_2026, IN_2026)}
        assert read_forgotten(folder / FORGOTTEN) == expected
        assert Tombstones(folder / FORGOTTEN).add(8) == IN_2150 + 1
        Journal(folder / JOURNAL).append([(7, 12)])
        assert [row[:3] for row in rows(folder / JOURNAL)] == [*EVENTS, (EVENTS[-1][0] + 1, 7, 12)]
    assert seen == {(1, 0), (2, 0), (2, 2)}


def test_several_processes_may_open_it_first(tmp_path):
    path = tmp_path / JOURNAL
    version_1.journal(path, EVENTS)
    writers = [
        subprocess.Popen([sys.executable, "-c", APPENDS, str(path), str(user)])
        for user in (100, 101, 102)
    ]
    assert [process.wait() for process in writers] == [0, 0, 0]
    assert [row[:3] for row in rows(path)][: len(EVENTS)] == EVENTS
    for user in (100, 101, 102):
        assert Journal(path).last(user, 99) == [*range(20)]


def test_a_crash_of_version_1_before_it_noted_its_version_is_no_obstacle(tmp_path):
    path = tmp_path / JOURNAL
    with closing(sqlite3.connect(path)) as db:  # killed after the first of its statements
        db.execute(version_1.JOURNAL.split(";")[0])
    Journal(path).append([(7, 12)])
    assert Journal(path).last(7, 9) == [12]


def test_tombstones_of_a_wrong_clock_go_on_and_the_next_have_the_right_time(tmp_path):
    path = tmp_path / FORGOTTEN
    version_1.forgotten(path, {8: IN_2150})
    tombstones = Tombstones(path)
    assert tombstones.read_new() == [8]
    assert tombstones.until == {8: IN_2150}  # read as it is
    before = time.time_ns() // 1000
    tombstones.add(9)
    other = Tombstones(path)
    assert sorted(other.read_new()) == [8, 9]
    assert other.until == tombstones.until == {8: IN_2150, 9: IN_2150 + 1}
    assert other.asked_at(8) == IN_2150
    assert before <= other.asked_at(9) <= time.time_ns() // 1000


def test_tombstones_of_a_later_version_are_refused_and_named(tmp_path):
    path = tmp_path / FORGOTTEN
    Tombstones(path).add(7)
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 3")
    for call in (Tombstones(path).read_new, partial(Tombstones(path).add, 8)):
        with pytest.raises(JournalError, match=r"forgotten\.db can't be .*version 3, expected 2"):
            call()


def test_what_a_service_of_version_1_would_do_next_fails(tmp_path):
    """So one that still runs on the same folder stores nothing with a wrong meaning."""
    version_1.journal(tmp_path / JOURNAL, EVENTS)
    version_1.forgotten(tmp_path / FORGOTTEN, {8: IN_2026})
    with (
        closing(sqlite3.connect(tmp_path / JOURNAL)) as running,
        closing(sqlite3.connect(tmp_path / FORGOTTEN)) as asked,
    ):
        running.execute("SELECT max(at) FROM events").fetchone()
        asked.execute("SELECT max(at) FROM forgotten").fetchone()
        Journal(tmp_path / JOURNAL).append([(7, 12)])
        Tombstones(tmp_path / FORGOTTEN).add(9)
        for db, statement in (
            (running, "SELECT max(at) FROM (SELECT at FROM forgotten_until)"),
            (running, "INSERT INTO events VALUES (1, 2, 3)"),
            (asked, "SELECT user_id, at FROM forgotten"),
            (asked, "INSERT OR REPLACE INTO forgotten VALUES (1, 2)"),
        ):
            with pytest.raises(sqlite3.OperationalError, match=r"no such column|columns but"):
                db.execute(statement)
