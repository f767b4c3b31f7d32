"""Convert the events that the service recorded into interactions for the next run.

    python -m jobs.export_events --work data
    python -m jobs.prepare --data IN --work data --events data/events.parquet
    python -m jobs.export_events --work data --store valkey://HOST:PORT/DB

Adds to WORK/events.parquet the events in the service's journal that come after the last one in the
file, so exporting twice adds nothing. Exported events are then deleted from the journal, except for
the last 1,000 of each user, which the service needs. Events from before a user asked to be
forgotten are not exported, and are removed from the file. The service may run at the same time.

With --store, events and tombstones are those of a Valkey that several services share. Exported
events leave its log, and the tombstones are copied to WORK/state, where jobs.prepare finds them.

An event that is over a day later than now was stored while the service's clock was wrong. It gets
the time of the last event before it that is not, or of the next one after it, or now if all are
later. The summary counts these events. --now sets the moment.
"""

import argparse
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.contract import tables
from jobs.contract.ids import TEXT
from jobs.contract.journal import (
    JOURNAL_KEEPS,
    JOURNAL_VERSION,
    TEXT_VERSION,
    TIME_OF_EVENT,
    Id,
    change_kinds,
    kinds_of_journal,
    upgrade_journal,
)
from jobs.contract.names import FORGOTTEN, JOURNAL, STATE
from jobs.contract.storage import JobError
from jobs.contract.tables import EVENTS, EVENTS_OF_VERSION_1, TIME, Table
from jobs.contract.text_ids import Kinds
from jobs.data import clock, tombstones, valkey_events
from jobs.data.tombstones import Tombstones
from jobs.data.valkey_client import Client, connected
from jobs.runtime import cli
from jobs.runtime.progress import progress_bar

BLOCK = 1 << 18  # events read at a time
FEW = 1 << 10  # the same where the first one will probably do


def main(argv: Sequence[str]) -> str:
    """Write WORK/events.parquet; return a summary with the number of new events."""
    options = arguments(argv)
    path = options.state or options.work / STATE
    if options.store:
        return export_valkey(options, path)
    try:
        with closing(open_journal(path / JOURNAL)) as journal:
            table = table_of(kinds_of_journal(journal))
            check_kinds(options.work, table)
            to_forget = tombstones.read(path / FORGOTTEN)
            added, corrected, last = export(journal, options.work, table, to_forget, options.now)
            dropped = drop(journal, last)
    except sqlite3.Error as error:
        raise JobError(f"{path / JOURNAL} can't be used ({error}): check its permissions") from None
    return summary(options.work, table, added, corrected, dropped, "the journal")


def summary(work: Path, table: Table, added: int, corrected: int, dropped: int, source: str) -> str:
    """Return what was done in one line."""
    return (
        f"{added:,} new events, {tables.n_rows(table, work):,} in "
        f"{work / EVENTS.file}; {dropped:,} exported ones deleted from {source}"
        + (f"; {corrected:,} later than now were given their neighbours' time" if corrected else "")
    )


def export_valkey(options: argparse.Namespace, state: Path) -> str:
    """The same with the events of a Valkey; the tombstones are copied to the folder `state`.

    The events are brought into their order by a temporary journal. They leave Valkey once the file
    is complete, so those of an export that was interrupted are found in both, and taken once.
    """
    with connected(options.store) as client, closing(sqlite3.connect("")) as journal:
        kinds = valkey_events.kinds(client)
        until = valkey_events.raise_seqs(client)
        table = table_of(kinds)
        check_kinds(options.work, table)
        valkey_events.save_forgotten(state / FORGOTTEN, *valkey_events.forgotten(client))
        exported = last_exported(options.work, table)
        if exported > until:
            raise JobError(
                f"{options.work / EVENTS.file} holds events of another store: move the file "
                "elsewhere, or pass another --work"
            )
        users = valkey_events.waiting_users(client, kinds.users)
        fill(journal, client, users, kinds, (exported, until))
        to_forget = tombstones.read(state / FORGOTTEN)
        added, corrected, _ = export(journal, options.work, table, to_forget, options.now)
        dropped = valkey_events.remove_exported(client, users, until)
    return summary(options.work, table, added, corrected, dropped, "Valkey")


def fill(
    journal: sqlite3.Connection,
    client: Client,
    users: Sequence[Id],
    kinds: Kinds,
    between: tuple[int, int],
) -> None:
    """Make a new journal with the users' events that are after one seq and not after another."""
    journal.isolation_level = None
    upgrade_journal(journal)
    change_kinds(journal, kinds)
    after, until = between
    rows = valkey_events.waiting(client, users)
    found = ((r.seq, r.user, r.track, r.at) for r in rows if after < r.seq <= until)
    journal.execute("BEGIN")
    journal.executemany("INSERT INTO events VALUES (?, ?, ?, ?)", found)
    if kinds.tracks == TEXT:
        numbers = [int(n) for (n,) in journal.execute("SELECT DISTINCT track_id FROM events")]
        texts = valkey_events.texts_of(client, numbers)
        journal.create_function("text_of", 1, lambda number: texts[int(number)])
        journal.execute("UPDATE events SET track_id = text_of(track_id)")
    journal.execute("COMMIT")


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = cli.parser(__doc__)
    parser.add_argument(
        "--state", type=Path, help="folder of the journal, the service's RECO_STATE (WORK/state)"
    )
    parser.add_argument(
        "--store",
        help="valkey://HOST:PORT/DB or valkeys://..., the service's RECO_EVENTS (default: the "
        "journal in --state); RECO_EVENTS_PASSWORD and the like are those of the service",
    )
    parser.add_argument(
        "--now",
        type=clock.moment,
        help="what counts as now, as 2026-05-01T12:00 in UTC (default: now)",
    )
    options = parser.parse_args(argv)
    options.now = options.now or datetime.now(UTC)
    return options


def open_journal(path: Path) -> sqlite3.Connection:
    """Open a journal, and upgrade one of version 1.

    Raises JobError if it does not exist or has another version.
    """
    if not path.is_file():
        raise JobError(
            f"{path} is missing: put events into the service with RECO_JOURNAL=normal or full, "
            f"or pass the folder of the journal as --state"
        )
    journal = sqlite3.connect(path, timeout=60, isolation_level=None)
    journal.execute("PRAGMA secure_delete = ON")
    (version,) = journal.execute("PRAGMA user_version").fetchone()
    if version not in (1, JOURNAL_VERSION, TEXT_VERSION):
        journal.close()
        raise JobError(
            f"{path} is a journal of version {version}, expected {JOURNAL_VERSION}: "
            f"export it with the version of the code that wrote it"
        )
    upgrade_journal(journal)
    return journal


def table_of(kinds: Kinds) -> Table:
    """Return the table of the events of a journal with ids of these kinds."""
    return replace(EVENTS, schema=tables.with_text(EVENTS.schema, kinds))


def check_kinds(work: Path, table: Table) -> None:
    """Raise JobError if the file has events with ids of another kind than the journal."""
    if not (work / EVENTS.file).exists():
        return
    found = tables.types(EVENTS, work)
    for name in ("user_id", "track_id"):
        if found.get(name) not in (None, str(table.schema.field(name).type)):
            raise JobError(
                f"{work / EVENTS.file} has events whose {name} is {found[name]}, but in the "
                f"journal it is {table.schema.field(name).type}: move the file elsewhere"
            )


def export(
    journal: sqlite3.Connection, work: Path, table: Table, to_forget: Tombstones, now: datetime
) -> tuple[int, int, int]:
    """Add new events to the file.

    Returns how many there were, how many events got their neighbours' time, and the seq of the last
    exported event.
    """
    exported = last_exported(work, table)
    last = max(exported, newest_seq(journal))
    correct = TimeCorrection(now)
    correct.begin(chain(events_of_file(work, table), since(journal, table, exported, last, FEW)))
    added, newest = 0, table.schema.empty_table()
    with tables.writer(table, work) as append:
        for block in events_of_file(work, table):
            append(kept := correct(without_forgotten(block, to_forget)))
            newest = kept[-1:] if len(kept) else newest
        check_source(journal, newest, work / EVENTS.file)
        for block in since(journal, table, exported, last):
            append(kept := correct(without_forgotten(block, to_forget)))
            added += len(kept)
    return added, correct.corrected, last


class TimeCorrection:
    """Gives events that are later than now the time of their neighbours, block by block."""

    def __init__(self, now: datetime) -> None:
        self._now = clock.microseconds(now)
        self._latest = clock.latest_right(now)
        self._before = 0  # the time of the event before the next block
        self.corrected = 0  # events so far

    def begin(self, blocks: Iterator[pa.Table]) -> None:
        """Find out which time the first events get, from all events in order."""
        self._before = clock.time_before(map(times_of, blocks), self._latest, self._now)

    def __call__(self, events: pa.Table) -> pa.Table:
        """Return the next block of events with right times."""
        if not len(events):
            return events
        times = times_of(events)
        right = clock.neighbours_times(times, self._latest, self._before)
        self._before = int(right[-1])
        self.corrected += int((times != right).sum())
        at = EVENTS.schema.get_field_index("started_at")
        column = pa.array(right.view("datetime64[us]"))
        return events.set_column(at, EVENTS.schema.field(at), column)


def times_of(events: pa.Table) -> np.ndarray:
    """Return when events were, in microseconds since 1970: (n,) int64."""
    times: np.ndarray = events["started_at"].to_numpy().astype("datetime64[us]").view(np.int64)
    return times


def last_exported(work: Path, events: Table) -> int:
    """Return the seq of the newest event in the file; -1 if there is none."""
    if not (work / EVENTS.file).exists():
        return -1
    table, column = table_of_file(work, events)
    batches = (batch[column].cast(pa.int64()) for batch in tables.batches(table, work, [column]))
    return max((pc.max(seq).as_py() for seq in batches if len(seq)), default=-1)


def table_of_file(work: Path, events: Table) -> tuple[Table, str]:
    """Return the form of the file and the column that has the events' seq.

    In a file of an earlier version of the code that is the time: see contract.journal.
    """
    if tables.columns(EVENTS, work) == EVENTS_OF_VERSION_1.schema.names:
        return EVENTS_OF_VERSION_1, "started_at"
    return events, "journal_seq"


def newest_seq(journal: sqlite3.Connection) -> int:
    """Return the seq of the journal's newest event; -1 if there are none."""
    (newest,) = journal.execute("SELECT max(seq) FROM events").fetchone()
    return -1 if newest is None else int(newest)


def events_of_file(work: Path, events: Table) -> Iterator[pa.Table]:
    """Yield the exported events block by block, oldest first; nothing if there is no file."""
    if not (work / EVENTS.file).exists():
        return
    table, column = table_of_file(work, events)
    for batch in tables.batches(table, work, table.schema.names):
        block = pa.Table.from_batches([batch])
        if table is EVENTS_OF_VERSION_1:
            block = block.append_column("journal_seq", block[column].cast(pa.int64()))
        yield block


def check_source(journal: sqlite3.Connection, newest: pa.Table, path: Path) -> None:
    """Raise JobError if the file's newest event (at most one row) is from another journal.

    A user's last events stay in the journal, so the newest event of the file must be in it, unless
    all events of the journal come after it.
    """
    for event in newest.to_pylist():
        query = "SELECT seq, user_id, track_id FROM events WHERE seq <= ? ORDER BY seq DESC LIMIT 1"
        row = journal.execute(query, (event["journal_seq"],)).fetchone()
        if row not in (None, (event["journal_seq"], event["user_id"], event["track_id"])):
            raise JobError(
                f"{path} holds events of another journal, the last from {event['started_at']}: "
                f"move the file elsewhere, or pass another --work"
            )


def without_forgotten(events: pa.Table, to_forget: Tombstones) -> pa.Table:
    """Return the events (n,) without those from before a user asked to be forgotten."""
    user, seq = events["user_id"], events["journal_seq"].to_numpy()
    if pa.types.is_string(user.type):
        encoded = user.combine_chunks().dictionary_encode()
        to_forget, user = to_forget.of_texts(encoded.dictionary), encoded.indices
    user = user.to_numpy()
    return events.filter(pa.array(~to_forget.covers(user, times_of(events), seq)))


def since(
    journal: sqlite3.Connection, table: Table, after: int, last: int, block: int = BLOCK
) -> Iterator[pa.Table]:
    """Yield the events after a seq, and up to another, in their order, block by block."""
    query = f"""
        SELECT user_id, track_id, {TIME_OF_EVENT}, seq FROM events
        WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?
    """
    with progress_bar(desc="export", unit=" events", unit_scale=True) as bar:
        while rows := journal.execute(query, (after, last, block)).fetchall():
            user, track, at, seq = (pa.array(column) for column in zip(*rows, strict=True))
            columns = [user, track, at.cast(TIME), pa.nulls(len(rows), tables.INT), seq]
            yield pa.table(columns, schema=table.schema)
            after = rows[-1][3]
            bar.update(len(rows))


def drop(journal: sqlite3.Connection, exported: int) -> int:
    """Delete the exported events of each user but the last JOURNAL_KEEPS; return their number.

    `exported` is the seq of the last exported event. There is a transaction for each user, so that
    the service never waits long.
    """
    many = "SELECT user_id FROM events GROUP BY user_id HAVING count(*) > ?"
    old = """
    DELETE FROM events WHERE user_id = ? AND seq <= ? AND seq < (
        SELECT seq FROM events WHERE user_id = ? ORDER BY seq DESC LIMIT 1 OFFSET ?)
    """
    users = [user for (user,) in journal.execute(many, (JOURNAL_KEEPS,))]
    return sum(
        journal.execute(old, (user, exported, user, JOURNAL_KEEPS - 1)).rowcount
        for user in progress_bar(users, desc="drop", unit=" users")
    )


if __name__ == "__main__":
    cli.run(main)
