"""Events come from Valkey to the jobs, once each, and move between the two stores."""

import sqlite3

import pyarrow.parquet as pq
import pytest

from jobs import export_events, move_events
from jobs.contract import journal
from jobs.contract.names import FORGOTTEN, JOURNAL, STATE
from jobs.contract.storage import JobError
from jobs.contract.valkey import parse_server
from tests.api.release.test_answers import client_of
from tests.support import releases
from tests.support.releases import INTEGERS, TEXTS, named


@pytest.fixture(params=[INTEGERS, TEXTS], ids=["integers", "texts"])
def world(request, tmp_path):
    """A folder with a release, and what makes ids of numbers."""
    releases.make(tmp_path, text=request.param)
    return tmp_path, named if request.param == TEXTS else int


def shared(work, valkey):
    return client_of(work, events=parse_server(valkey.address))


def export(work, valkey):
    return export_events.main(["--work", str(work), "--store", valkey.address])


def move(work, valkey, state, *more):
    words = ["--work", str(work), "--store", valkey.address, "--state", str(state)]
    return move_events.main([*words, *more])


def exported(work):
    rows = pq.read_table(work / "events.parquet").to_pylist()
    assert [r["journal_seq"] for r in rows] == sorted({r["journal_seq"] for r in rows})
    return [(row["user_id"], row["track_id"]) for row in rows]


def events_of(client, *users):
    return [client.answer("/get_user_events", user_id=user, k=100)["events"] for user in users]


def test_each_event_is_exported_once_in_order_and_leaves_the_log(world, valkey):
    work, name = world
    with shared(work, valkey) as service:
        service.put(name(47), name(5), name(6))
        service.put(name(9), name(7))
        assert export(work, valkey).startswith("3 new events, 3 in")
        service.put(name(47), name(5))
        assert export(work, valkey).startswith("1 new events, 4 in")
        assert export(work, valkey).startswith("0 new events, 4 in")
        expected = [(47, 5), (47, 6), (9, 7), (47, 5)]
        assert exported(work) == [(name(user), name(track)) for user, track in expected]
        assert events_of(service, name(47)) == [[name(5), name(6), name(5)]]
    waiting = [valkey.ask("HGET", f"reco:{{{shard}}}", "waiting") for shard in range(64)]
    assert sum(int(count or 0) for count in waiting) == 0
    assert [key for key in valkey.ask("KEYS", "*") if "}u" in key] == []


def test_an_export_that_was_killed_before_the_log_was_trimmed_doubles_nothing(
    world, valkey, monkeypatch
):
    work, name = world
    with shared(work, valkey) as service:
        service.put(name(47), name(5), name(6))
        with monkeypatch.context() as patch:
            patch.setattr("jobs.data.valkey_events.remove_exported", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                export(work, valkey)
        service.put(name(47), name(7))
        assert "3 exported ones deleted" in export(work, valkey)
        assert exported(work) == [(name(47), name(track)) for track in (5, 6, 7)]


def test_what_a_forgotten_user_did_leaves_the_file_and_the_tombstone_is_copied(world, valkey):
    work, name = world
    with shared(work, valkey) as service:
        service.put(name(47), name(5))
        service.put(name(9), name(5))
        export(work, valkey)
        service.answer("/forget_user", "POST", user_id=name(47))
        service.put(name(47), name(8))
        export(work, valkey)
        assert exported(work) == [(name(9), name(5)), (name(47), name(8))]
    assert len(journal.read_forgotten(work / STATE / FORGOTTEN)) == 1
    with client_of(work, journal="normal") as embedded:  # it obeys the copy
        assert embedded.recs(name(47), k=3) == embedded.recs(name(99), k=3)


def test_a_journal_moves_to_valkey_and_back_with_orders_and_times(world, valkey):
    work, name = world
    with client_of(work, journal="normal") as embedded:
        for item in (5, 6, 7):
            embedded.put(name(47), name(item))
            embedded.put(name(9), name(item + 1))
        embedded.put(name(16), name(1))
        embedded.answer("/forget_user", "POST", user_id=name(16))
        embedded.put(name(16), name(2))
        export_events.main(["--work", str(work)])
        embedded.put(name(47), name(8), name(8))
        before = events_of(embedded, name(47), name(9), name(16))
        forgotten = embedded.recs(name(16), k=5)
    query = "SELECT user_id, track_id, at FROM events ORDER BY user_id, seq"
    rows = sqlite3.connect(work / STATE / JOURNAL).execute(query).fetchall()
    move(work, valkey, work / STATE)
    with shared(work, valkey) as service:
        assert events_of(service, name(47), name(9), name(16)) == before
        assert service.recs(name(16), k=5) == forgotten
        service.put(name(9), name(20))
        assert export(work, valkey).startswith("3 new events")
    with pytest.raises(JobError, match="Valkey has events already"):
        move(work, valkey, work / STATE)
    move(work, valkey, work / "back", "--back")
    found = sqlite3.connect(work / "back" / JOURNAL).execute(query).fetchall()
    assert [row for row in found if row[:2] != (name(9), name(20))] == rows
    with client_of(work, journal="normal", state=work / "back") as embedded:
        again = events_of(embedded, name(47), name(9), name(16))
        assert again == [before[0], [name(20), *before[1]], before[2]]
        assert embedded.recs(name(16), k=5) == forgotten
    with pytest.raises(JobError, match="has a journal or tombstones already"):
        move(work, valkey, work / "back", "--back")


def test_a_move_back_needs_the_file_with_the_times(world, valkey):
    work, name = world
    with shared(work, valkey) as service:
        service.put(name(47), name(5))
        export(work, valkey)
        (work / "events.parquet").unlink()
    with pytest.raises(JobError, match="does not have all events that were exported"):
        move(work, valkey, work / "back", "--back")
    assert not (work / "back").exists()


def test_a_store_that_cannot_be_used_is_named_with_what_to_do(tmp_path, valkey):
    work = ["--work", str(tmp_path), "--store"]
    for address, message in (
        (valkey.address, "Valkey has no events: check --store"),
        ("valkey://127.0.0.1:1/0", "can be used"),
        ("redis://127.0.0.1", "expected valkey://HOST"),
        ("valkey://reco:secret@127.0.0.1", "set RECO_EVENTS_PASSWORD"),
    ):
        with pytest.raises(JobError, match=message) as refused:
            export_events.main([*work, address])
        assert "secret" not in str(refused.value)
