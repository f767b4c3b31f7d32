"""What is acknowledged is in the journal, in order and once, whatever happens to the process."""

import asyncio
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import count
from unittest.mock import Mock

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from api.events.connections import LOCK_SECONDS
from api.events.journal import Busy, Journal, JournalError
from api.events.journaled_store import JournaledStore
from api.events.tombstones import Tombstones
from api.events.user_filter import UserFilter
from jobs.contract.names import FORGOTTEN, JOURNAL, MAX_ID, STATE
from tests.api.release.test_answers import client_of
from tests.support import releases
from tests.support.server import limit_files, litestar_run
from tests.support.version_1 import IN_2026, IN_2150
from tests.support.waiting import until, wait_until

PUT = "/put_user_event"


def store_of(path, per_user=10, max_users=10, in_thread=False):
    """A store whose journal is `path`, with its tombstones beside it."""
    tombstones = Tombstones(path.with_name(f"{path.name}.{FORGOTTEN}"))
    return JournaledStore(Journal(path, in_thread), tombstones, per_user, max_users, in_thread)


def rows(path):
    with closing(sqlite3.connect(path)) as db:
        return db.execute("SELECT seq, user_id, track_id FROM events ORDER BY seq").fetchall()


def test_a_user_s_last_events_come_back_in_order(tmp_path):
    path = tmp_path / "events.db"
    journal = Journal(path)
    journal.append([(7, 1), (8, 1), (7, 2)])
    journal.append([(7, 2), (7, 3)])
    for reader in (journal, Journal(path)):
        assert [reader.last(7, n) for n in (3, 100)] == [[2, 2, 3], [1, 2, 2, 3]]
        assert reader.last(9, 5) == []
        assert reader.users().tolist() == [7, 8]


def test_the_order_never_goes_back_and_the_time_is_the_clock_s(tmp_path, monkeypatch):
    path = tmp_path / "events.db"
    for clock in (9_000, 70_000, 9_500):  # as in the docstring of the journal
        monkeypatch.setattr(time, "time_ns", lambda: clock * 1000)  # noqa: B023
        Journal(path).append([(1, 1), (1, 2)])
    assert [seq for seq, _, _ in rows(path)] == [9_000, 9_001, 70_000, 70_001, 70_002, 70_003]
    with closing(sqlite3.connect(path)) as db:
        times = [at for (at,) in db.execute("SELECT at FROM events ORDER BY seq")]
    assert times == [9_000, 9_001, 70_000, 70_001, 9_500, 9_501]


@pytest.mark.parametrize("full", [False, True])
def test_several_writers_of_one_journal_lose_and_double_nothing(tmp_path, full):
    path = tmp_path / "events.db"

    def write(user):
        journal = Journal(path, full)
        for item in range(0, 300, 3):
            journal.append([(user, item), (user, item + 1), (user, item + 2)], timeout=20)
            journal.checkpoint()

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(write, range(3)))
    for user in range(3):
        assert Journal(path).last(user, 1000) == [*range(300)]
        assert [item for _, u, item in rows(path) if u == user] == [*range(300)]


def test_a_journal_of_another_version_or_kind_is_refused_and_named(tmp_path):
    other = tmp_path / "other.db"
    with closing(sqlite3.connect(other)) as db:
        db.execute("PRAGMA user_version = 99")
    (tmp_path / "text.db").write_text("these are no events, though they are long enough " * 100)
    for name, reason in (("other.db", "version 99, expected 2"), ("text.db", "not a database")):
        for call in (lambda j: j.append([(1, 1)]), lambda j: j.last(1, 1), Journal.users):
            with pytest.raises(JournalError, match=rf"{name} can't be .*{reason}"):
                call(Journal(tmp_path / name))


def test_a_journal_that_was_taken_away_is_missed_at_the_next_event(tmp_path):
    journal = Journal(tmp_path / "events.db")
    journal.append([(1, 1)])
    journal.last(1, 1)
    for name in ("events.db", "events.db-wal", "events.db-shm"):
        (tmp_path / name).unlink()
    with pytest.raises(JournalError, match="can't be written"):
        journal.append([(1, 2)])
    journal.append([(1, 3)])
    assert journal.last(1, 9) == Journal(tmp_path / "events.db").last(1, 9) == [3]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(0, MAX_ID), max_size=50),
    st.lists(st.integers(0, MAX_ID), max_size=50),
)
def test_who_was_added_is_known_and_hardly_anyone_else(one_by_one, at_once):
    known = UserFilter()
    known.add_all(np.array(at_once, np.int64))
    for user in one_by_one:
        known.add(user)
    assert all(user in known for user in one_by_one + at_once)
    others = {*range(1000)}.difference(one_by_one, at_once)
    assert sum(user in known for user in others) <= 1


def test_of_a_million_known_users_few_others_are_taken_for_known():
    known = UserFilter()
    rng = np.random.default_rng(0)
    known.add_all(rng.integers(0, MAX_ID, 1_000_000))
    others = rng.integers(0, MAX_ID, 20_000).tolist()
    assert sum(user in known for user in others) < 20


class StoreMachine(RuleBasedStateMachine):
    """A store beside a plain list of (user, item), newest last, whatever the clock says."""

    folder = patch = None
    numbers = count()
    users = st.integers(0, 5)

    @initialize(per_user=st.integers(1, 4), max_users=st.integers(1, 4), in_thread=st.booleans())
    def start(self, per_user, max_users, in_thread):
        self.path = self.folder / f"{next(self.numbers)}.db"
        self.options = per_user, max_users, in_thread
        self.runner = asyncio.Runner()
        self.puts = []
        self.times = []  # what the clock said at each
        self.set_clock(IN_2026)
        self.store = None
        self.restart()

    @rule(clock=st.sampled_from([1, IN_2026, IN_2026 + 1, IN_2026 + 3_600_000_000, IN_2150]))
    def set_clock(self, clock):
        self.clock = clock
        self.patch.setattr(time, "time_ns", lambda: clock * 1000)

    @rule()
    def restart(self):
        """End without any farewell, as by kill -9, and start again."""
        per_user, max_users, in_thread = self.options
        if self.store:
            self.store._upkeep.cancel()
        self.store = store_of(self.path, per_user, max_users, in_thread)
        self.store._tombstones.read_new()
        self.runner.run(self.store.start())

    def expected(self, user, more=()):
        own = [item for u, item in (*self.puts, *more) if u == user]
        return own[::-1][: self.options[0]]

    @rule(
        events=st.lists(st.tuples(users, st.integers(0, 9)), min_size=1, max_size=8),
        between=st.lists(users, max_size=3),
    )
    def put_together(self, events, between):
        async def put_and_read():
            waiting = [self.store.put(*event) for event in events]
            for user in between:  # some of them while the commit goes on in a thread
                await asyncio.sleep(0)
                found = self.store.of(user)
                assert found in (self.expected(user), self.expected(user, events))
            await asyncio.gather(*waiting)

        self.runner.run(put_and_read())
        self.puts += events
        self.times += [self.clock] * len(events)

    @rule(user=users)
    def forget(self, user):
        async def ask():
            return await self.store.forget(user)

        assert self.runner.run(ask()) == self.forget_in_the_model(user)

    @rule(user=users)
    def crash_while_a_user_is_forgotten(self, user):
        """The tombstone is stored, and the events are not removed."""
        self.store._tombstones.add(user, max((seq for seq, _, _ in self.rows()), default=0))
        self.forget_in_the_model(user)
        self.restart()

    def forget_in_the_model(self, user):
        kept = [i for i, (other, _) in enumerate(self.puts) if other != user]
        n_events = len(self.puts) - len(kept)
        self.puts, self.times = ([each[i] for i in kept] for each in (self.puts, self.times))
        return n_events

    def rows(self):
        return rows(self.path) if self.path.exists() else []

    @rule(user=users)
    def read(self, user):
        assert self.store.of(user) == self.expected(user)

    @rule()
    def checkpoint(self):
        self.store._journal.checkpoint()

    def teardown(self):
        if not hasattr(self, "runner"):
            return
        for user in range(6):
            self.read(user)
        stored, times = [(user, item) for _, user, item in self.rows()], []
        if stored:
            with closing(sqlite3.connect(self.path)) as db:
                times = [at for (at,) in db.execute("SELECT at FROM events ORDER BY seq")]
        self.runner.run(self.store.stop())
        self.runner.close()
        self.patch.undo()
        assert stored == self.puts
        # the events of a commit have a microsecond each
        assert all(0 <= at - clock < 8 for at, clock in zip(times, self.times, strict=True))
        assert self.store.users <= self.options[1]


def test_a_store_is_like_a_plain_list(tmp_path, monkeypatch):
    machine = type("Machine", (StoreMachine,), {"folder": tmp_path, "patch": monkeypatch})
    machine.TestCase.settings = settings(max_examples=40, stateful_step_count=15, deadline=None)
    machine.TestCase().runTest()


def test_a_user_without_events_costs_no_file_access(tmp_path, monkeypatch):
    async def ask():
        Journal(tmp_path / "events.db").append([(1, 5)])
        store = store_of(tmp_path / "events.db")
        await store.start()
        assert store.of(1) == [5]
        monkeypatch.setattr(Journal, "last", None)
        assert store.of(1) == [5]
        assert store.of(2) == []
        await store.put(3, 7)
        assert store.of(3) == [7]
        await store.stop()

    asyncio.run(ask())


def test_while_another_process_writes_puts_wait_and_reading_goes_on(tmp_path):
    async def ask():
        store = store_of(tmp_path / "events.db")
        await store.start()
        await store.put(1, 5)
        with closing(sqlite3.connect(tmp_path / "events.db")) as other:
            other.execute("BEGIN IMMEDIATE")
            waiting = [store.put(1, 6), store.put(2, 7)]
            await asyncio.sleep(0.1)
            assert not any(put.done() for put in waiting)
            assert store.of(1) == [5]
            waiting.append(store.put(1, 8))
            other.rollback()
        await asyncio.gather(*waiting)
        assert [store.of(user) for user in (1, 2)] == [[8, 6, 5], [7]]
        await store.stop()

    asyncio.run(ask())


def test_what_another_process_stores_is_seen_soon(tmp_path, monkeypatch):
    monkeypatch.setattr("api.events.journaled_store.UPKEEP_SECONDS", 0.02)

    async def ask():
        both = [store_of(tmp_path / "events.db") for _ in range(2)]
        for store in both:
            await store.start()
        for i in range(6):  # users 0 and 1, taken in by turns
            await both[i % 2].put(i // 3, i)
            expected = [[*range(min(i, 2), -1, -1)], [*range(i, 2, -1)]]
            for store in both:
                await until(lambda: [store.of(user) for user in (0, 1)] == expected)  # noqa: B023
        for store in both:
            await store.stop()

    asyncio.run(ask())


def test_only_users_of_other_writers_are_news(tmp_path):
    own, other = Journal(tmp_path / "events.db"), Journal(tmp_path / "events.db")
    other.append([(1, 5)])
    assert own.users().tolist() == [1]
    own.append([(2, 5)])
    assert own.users_of_others() == set()
    other.append([(3, 5)])
    own.append([(2, 6)])
    other.append([(4, 5)])
    assert [own.users_of_others(), own.users_of_others()] == [{3, 4}, set()]


def test_news_that_could_not_be_read_come_later(tmp_path, monkeypatch):
    own, other = Journal(tmp_path / "events.db"), Journal(tmp_path / "events.db")
    own.append([(1, 5)])
    other.append([(3, 5)])
    monkeypatch.setattr(
        "api.events.journal._newest_seq", failing := Mock(side_effect=sqlite3.Error("no"))
    )
    with pytest.raises(JournalError, match="can't be read: no"):
        own.users_of_others()
    assert failing.called
    monkeypatch.undo()
    assert own.users_of_others() == {3}


def test_who_only_reads_follows_a_journal_that_was_replaced(tmp_path):
    path, reader = tmp_path / "events.db", Journal(tmp_path / "events.db")
    Journal(path).append([(7, 1)])
    assert reader.last(7, 9) == [1]
    for file in tmp_path.iterdir():
        file.unlink()
    Journal(path).append([(7, 9)])
    assert reader.users_of_others() == {7}
    assert reader.last(7, 9) == [9]


def test_where_others_read_for_long_a_long_log_waits_and_puts_do_not(tmp_path, monkeypatch):
    monkeypatch.setattr("api.events.journal.LONG_LOG_PAGES", 1)
    journal = Journal(tmp_path / "events.db")
    journal.append([(1, 5)])
    with closing(sqlite3.connect(tmp_path / "events.db", isolation_level=None)) as other:
        other.execute("BEGIN")
        other.execute("SELECT * FROM events").fetchall()
        journal.append([(1, 6)])
        start = time.monotonic()
        journal.checkpoint()
        assert time.monotonic() - start < LOCK_SECONDS
    journal.checkpoint()
    assert not (tmp_path / "events.db-wal").stat().st_size


def test_a_lock_that_stays_is_given_up_on(tmp_path):
    journal = Journal(tmp_path / "events.db")
    journal.append([(1, 5)])
    with closing(sqlite3.connect(tmp_path / "events.db")) as other:
        other.execute("BEGIN IMMEDIATE")
        for timeout in (0, 0.05):
            with pytest.raises(Busy, match="locked by another process"):
                journal.append([(1, 6)], timeout)
    journal.append([(1, 7)])
    assert journal.last(1, 9) == [5, 7]


@pytest.fixture
def work(tmp_path):
    releases.make(tmp_path)
    return tmp_path


def test_on_a_full_disk_puts_say_why_and_reading_goes_on(work):
    def put(user, item):
        return httpx.post(f"{service.url}{PUT}", params={"user_id": user, "item_id": item})

    def get(path, **params):
        return httpx.get(f"{service.url}{path}", params=params).raise_for_status().json()

    with litestar_run(work, LOG_LEVEL="WARNING") as service:
        assert put(47, 200).status_code == 200
        assert get("/health/ready")["journal"] == "ok"
        limit_files(service.process, 4096)
        for _ in range(3):
            refused = put(47, 199)
            assert refused.status_code == 503
            assert "events.db can't be written" in refused.json()["detail"]
        assert get("/get_user_events", user_id=47) == {"events": [200]}
        assert get("/recommendations", user_id=47, k=3)["recs"] == [201, 199, 202]
        assert "events.db can't be written" in get("/health/ready")["journal"]
        limit_files(service.process, None)
        assert put(47, 198).status_code == 200
        wait_until(lambda: get("/health/ready")["journal"] == "ok")
        assert get("/get_user_events", user_id=47) == {"events": [198, 200]}
    with litestar_run(work) as service:
        assert get("/get_user_events", user_id=47) == {"events": [198, 200]}


def test_a_service_with_a_broken_journal_starts_and_reads(work):
    path = work / STATE / JOURNAL
    path.parent.mkdir()
    path.write_text("no events " * 1000)
    with litestar_run(work) as service:
        url = f"{service.url}/recommendations?user_id=47&k=2"
        assert httpx.get(url).json() == {"recs": [200, 199]}
        assert "not a database" in httpx.get(f"{service.url}/health/ready").json()["journal"]
        event = {"user_id": 47, "item_id": 200}
        refused = httpx.post(f"{service.url}{PUT}", params=event)
        assert (refused.status_code, "not a database" in refused.text) == (503, True)
        refused = httpx.get(f"{service.url}/get_user_events?user_id=47")
        assert (refused.status_code, "not a database" in refused.text) == (503, True)
        path.unlink()
        assert httpx.post(f"{service.url}{PUT}", params=event).status_code == 200
        assert httpx.get(url).json() == {"recs": [201, 199]}
    log = service.log.read_text()
    assert "Perhaps events cannot be stored" in log and "The journal works again" in log
    assert "Traceback" not in log


@pytest.mark.parametrize("mode", ["off", "normal", "full"])
def test_a_restart_forgets_events_only_where_the_journal_is_off(work, mode):
    with client_of(work, journal=mode) as client:
        client.put(9, 7, 8)
    with client_of(work, journal=mode) as client:
        found = client.answer("/get_user_events", user_id=9)["events"]
        assert found == ([] if mode == "off" else [8, 7])
    assert (work / "state").exists() == (mode != "off")


def test_a_checkpoint_that_failed_is_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr("api.events.journaled_store.UPKEEP_SECONDS", 0.02)
    tries = Mock(side_effect=[JournalError("a full disk"), None])

    async def ask():
        store = store_of(tmp_path / "events.db")
        store._journal.checkpoint = tries
        await store.start()
        await store.put(7, 1)
        await until(lambda: tries.call_count == 2 and store.status == "ok")
        await store.stop()

    asyncio.run(ask())


def test_a_log_that_could_not_be_emptied_is_still_known_to_hold_forgotten_events(
    tmp_path, monkeypatch
):
    journal = Journal(tmp_path / "events.db")
    journal.append([(7, 1)])
    monkeypatch.setattr("api.events.journal._empty_log_now", Mock(side_effect=sqlite3.Error("no")))
    with pytest.raises(JournalError, match="can't be written: no"):
        journal.forget(7, lambda newest, _: newest)
    assert journal.log_holds_forgotten
    with pytest.raises(JournalError, match="can't be written: no"):
        journal.checkpoint()
    assert journal.log_holds_forgotten
    monkeypatch.undo()
    journal.checkpoint()
    assert not journal.log_holds_forgotten


def test_the_log_and_the_file_hold_what_the_journal_s_docstring_says(tmp_path):
    path = tmp_path / "events.db"
    log, journal = path.with_name("events.db-wal"), Journal(path)
    items = [0x101010101010, 0x202020202020, 0x303030303030]

    def held(file):
        return [item for item in items if item.to_bytes(6, "big") in file.read_bytes()]

    for item in items[:2]:
        journal.append([(7, item)])
    assert (held(log), held(path)) == (items[:2], [])
    journal.checkpoint()
    assert (held(log), held(path)) == (items[:2], items[:2])
    size = log.stat().st_size
    journal.append([(7, items[2])])
    assert (held(path), log.stat().st_size) == (
        items[:2],
        size,
    )  # it begins anew, as long as before
    assert {*held(log)} >= {items[1], items[2]}
    journal.forget(7, lambda newest, _: newest)
    assert held(log) == held(path) == []
