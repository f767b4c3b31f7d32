"""Move the service's events and tombstones from the embedded store to Valkey, or back.

    python -m jobs.move_events --work data --store valkey://HOST:PORT/DB
    python -m jobs.move_events --work data --store valkey://HOST:PORT/DB --back

Stop all services first. The target must be empty, and the source stays as it is: remove it once the
services run on the target. Each user's events keep their order. Those that are not in
WORK/events.parquet yet keep their times too, and are exported from the target later. Valkey has no
times of events that were exported, so the way back takes them from that file.
"""

import argparse
import re
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from jobs.contract import journal, tables, valkey
from jobs.contract.ids import INTEGER, TEXT
from jobs.contract.journal import Id
from jobs.contract.names import FORGOTTEN, JOURNAL, STATE
from jobs.contract.storage import JobError
from jobs.contract.tables import EVENTS, Table
from jobs.contract.text_ids import Kinds
from jobs.data import valkey_events
from jobs.data.valkey_client import Client, Command, connected
from jobs.runtime import cli
from jobs.runtime.progress import progress_bar

LIST_KEY = re.compile(rb"reco:\{[0-9]+\}e(.*)", re.DOTALL)
Event = tuple[int, Id, Id, int]  # seq, user, track, time


def main(argv: Sequence[str]) -> str:
    """Move everything; return a summary."""
    parser = cli.parser(__doc__)
    parser.add_argument("--store", required=True, help="valkey://HOST:PORT/DB or valkeys://...")
    parser.add_argument(
        "--state", type=Path, help="folder of the journal, the service's RECO_STATE (WORK/state)"
    )
    parser.add_argument("--back", action="store_true", help="from Valkey to the embedded store")
    parser.add_argument(
        "--events-per-user",
        type=int,
        default=100,
        help="how many last events the service keeps, its RECO_EVENTS_PER_USER (100)",
    )
    options = parser.parse_args(argv)
    state: Path = options.state or options.work / STATE
    with connected(options.store) as client:
        try:
            return (
                to_journal(client, options, state)
                if options.back
                else to_valkey(client, options, state)
            )
        except sqlite3.Error as error:
            raise JobError(
                f"{state / JOURNAL} can't be used ({error}): check its permissions"
            ) from None


def table_of(kinds: Kinds) -> Table:
    """Return the table of exported events with ids of these kinds."""
    return replace(EVENTS, schema=tables.with_text(EVENTS.schema, kinds))


def last_exported(work: Path, kinds: Kinds) -> int:
    """Return the seq of the newest event in WORK/events.parquet; -1 if there is none."""
    if not (work / EVENTS.file).exists():
        return -1
    newest = pc.max(tables.read(table_of(kinds), work, ["journal_seq"])["journal_seq"]).as_py()
    return -1 if newest is None else int(newest)


def to_valkey(client: Client, options: argparse.Namespace, state: Path) -> str:
    """Copy journal and tombstones into an empty Valkey."""
    path = state / JOURNAL
    if not path.is_file():
        raise JobError(f"{path} is missing: pass the folder of the journal as --state")
    if client.ask("EXISTS", valkey.MOVING, valkey.FORGOTTEN, *valkey.shards()):
        raise JobError(
            "Valkey has events already, maybe of a move that was interrupted: name an empty "
            "database, or empty this one by FLUSHDB if nothing in it is needed"
        )
    stored = journal.read_forgotten(state / FORGOTTEN)
    hashed = any(isinstance(user, bytes) for user in stored)
    client.ask("SET", valkey.MOVING, 1)
    if hashed:
        client.ask("SET", valkey.FORGOTTEN_KEY, journal.read_key(state / FORGOTTEN))
    newest = max((tombstone.seq for tombstone in stored.values()), default=0)
    with closing(sqlite3.connect(path)) as db:
        journal.upgrade_journal(db)
        kinds = journal.kinds_of_journal(db)
        last = max(newest, db.execute("SELECT max(seq) FROM events").fetchone()[0] or 0)
        n_users, n_events = copy_events(client, db, kinds, options)
    client.ask("HSET", valkey.KINDS, "users", kinds.users, "tracks", kinds.tracks)
    for user, tombstone in stored.items():
        name = valkey.name_for(user)
        client.ask("ZADD", valkey.FORGOTTEN, tombstone.seq, name)
        client.ask("HSET", valkey.FORGOTTEN_AT, name, tombstone.asked_at)
    client.ask("SET", valkey.FORGOTTEN_LAST, newest)
    valkey_events.raise_seqs(client, last)
    client.ask("DEL", valkey.MOVING)
    return (
        f"the last {n_events:,} events of {n_users:,} users and {len(stored):,} tombstones are "
        f"in Valkey too: start the services with RECO_EVENTS, then remove {path}"
    )


def copy_events(
    client: Client, db: sqlite3.Connection, kinds: Kinds, options: argparse.Namespace
) -> tuple[int, int]:
    """Copy the users' last events, and those that are not exported; return how many of each."""
    exported, numbers = last_exported(options.work, kinds), dict[Id, int]()
    if kinds.tracks == TEXT:
        texts = [t for (t,) in db.execute("SELECT DISTINCT track_id FROM events ORDER BY 1")]
        numbers = {text: place for place, text in enumerate(texts, 1)}
        _do(client, (("ZADD", valkey.TRACKS, n, text) for text, n in numbers.items()))
    users = [user for (user,) in db.execute("SELECT DISTINCT user_id FROM events ORDER BY 1")]
    n_events = 0
    for user in progress_bar(users, desc="move", unit=" users"):
        events = [
            (seq, user, numbers.get(track, track), at)
            for seq, track, at in db.execute(
                f"SELECT seq, track_id, {journal.TIME_OF_EVENT} FROM events WHERE user_id = ? "
                "ORDER BY seq",
                (user,),
            )
        ]
        last = events[-options.events_per_user :]
        n_events += len(last)
        _do(client, _commands(user, last, [event for event in events if event[0] > exported]))
    return len(users), n_events


def _commands(user: Id, last: list[Event], not_exported: list[Event]) -> Iterator[Command]:
    """Yield what stores the events of a user, both lists oldest first."""
    shard, recent, log, waiting = valkey.place_of(user).keys
    yield "LPUSH", recent, *(track for _, _, track, _ in last)
    if not_exported:
        yield "RPUSH", log, *(n for seq, _, track, at in not_exported for n in (track, seq, at))
        yield "SADD", waiting, user
        yield "HINCRBY", shard, "waiting", len(not_exported)


def _do(client: Client, commands: Iterator[Command]) -> None:
    for _ in client.ask_all(commands):
        pass


def to_journal(client: Client, options: argparse.Namespace, state: Path) -> str:
    """Copy events and tombstones of Valkey into an empty embedded store."""
    path = state / JOURNAL
    if path.exists() or (state / FORGOTTEN).exists():
        raise JobError(f"{state} has a journal or tombstones already: pass an empty --state")
    kinds = valkey_events.kinds(client)
    stored, key = valkey_events.forgotten(client)
    events = [*events_of(client, kinds, options.work)]
    state.mkdir(parents=True, exist_ok=True)
    valkey_events.save_forgotten(state / FORGOTTEN, stored, key)
    temporary = path.with_suffix(".tmp")
    temporary.unlink(missing_ok=True)
    with closing(sqlite3.connect(temporary)) as db:
        journal.upgrade_journal(db)
        journal.change_kinds(db, kinds)
        with db:
            db.executemany("INSERT INTO events VALUES (?, ?, ?, ?)", sorted(events))
    temporary.replace(path)
    return (
        f"{len(events):,} events and {len(stored):,} tombstones are in {state} too: start the "
        "service without RECO_EVENTS, then empty the database of Valkey"
    )


def events_of(client: Client, kinds: Kinds, work: Path) -> Iterator[Event]:
    """Yield all events of Valkey; JobError if the file lacks the times of exported ones."""
    users = users_with_events(client, kinds.users)
    logs = defaultdict[Id, list[Event]](list)
    for seq, user, number, at in valkey_events.waiting(client, users):
        logs[user].append((seq, user, number, at))
    keys = [valkey.list_of(user) for user in users]
    lists = client.ask_all([("LRANGE", key, 0, -1) for key in keys])
    recent = {
        user: [int(number) for number in reversed(found)]
        for user, found in zip(users, lists, strict=True)
    }
    texts: dict[int, str] = {}
    if kinds.tracks == TEXT:
        numbers = {track for found in recent.values() for track in found}
        numbers |= {int(event[2]) for log in logs.values() for event in log}
        texts = valkey_events.texts_of(client, sorted(numbers))
    exported = exported_events(work, kinds)
    for user, tracks in recent.items():
        log, older = logs[user], len(tracks) - len(logs[user])
        yield from ((seq, user, texts.get(int(n), n), at) for seq, _, n, at in log)
        if older <= 0:
            continue
        known = [event for event in exported[user] if not log or event[0] < log[0][0]][-older:]
        if [e[2] for e in known] != [texts.get(n, n) for n in tracks[:older]]:
            raise JobError(
                f"{work / EVENTS.file} does not have all events that were exported from Valkey, "
                "whose times are only there: pass the --work to which they were exported"
            )
        yield from known


def users_with_events(client: Client, kind: str) -> list[Id]:
    """Return all users who have events in Valkey."""
    users, cursor = set[Id](), "0"
    while True:
        after, keys = client.ask("SCAN", cursor, "MATCH", "reco:{*}e*", "COUNT", 1000)
        matches = map(LIST_KEY.fullmatch, keys)  # a text id may have braces
        texts = (match[1].decode() for match in matches if match)
        users.update(int(text) if kind == INTEGER else text for text in texts)
        cursor = after.decode()
        if cursor == "0":
            return sorted(users, key=str)


def exported_events(work: Path, kinds: Kinds) -> dict[Id, list[Event]]:
    """Return all events in WORK/events.parquet by user, oldest first."""
    found = defaultdict[Id, list[Event]](list)
    if (work / EVENTS.file).exists():
        names = ["journal_seq", "user_id", "track_id", "started_at"]
        for batch in tables.batches(table_of(kinds), work, names):
            times = batch["started_at"].cast(pa.int64())
            columns = (column.to_pylist() for column in (*map(batch.column, names[:3]), times))
            for event in zip(*columns, strict=True):
                found[event[1]].append(event)
    return found


if __name__ == "__main__":
    cli.run(main)
