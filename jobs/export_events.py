"""Convert the events that the service recorded into interactions for the next run.

    python -m jobs.export_events --work data
    python -m jobs.prepare --data IN --work data --events data/events.parquet

Adds to WORK/events.parquet the events in the service's journal that are later than the last one in
the file, so exporting twice adds nothing. Exported events are then deleted from the journal, except
for the last 1,000 of each user, which the service needs. Events from before a user asked to be
forgotten are not exported, and are removed from the file. The service may run at the same time.
"""

import argparse
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from jobs.contract import tables
from jobs.contract.journal import JOURNAL_KEEPS, JOURNAL_VERSION
from jobs.contract.names import FORGOTTEN, JOURNAL, STATE
from jobs.contract.storage import JobError
from jobs.contract.tables import EVENTS
from jobs.data import tombstones
from jobs.data.tombstones import Tombstones
from jobs.runtime import cli
from jobs.runtime.progress import progress_bar

BLOCK = 1 << 18  # events read at a time


def main(argv: Sequence[str]) -> str:
    """Write WORK/events.parquet; return a summary with the number of new events."""
    options = arguments(argv)
    path = options.state or options.work / STATE
    try:
        with closing(open_journal(path / JOURNAL)) as journal:
            to_forget = tombstones.read(path / FORGOTTEN)
            added, last = export(journal, options.work, to_forget)
            dropped = drop(journal, last)
    except sqlite3.Error as error:
        raise JobError(f"{path / JOURNAL} can't be used ({error}): check its permissions") from None
    return (
        f"{added:,} new events, {tables.n_rows(EVENTS, options.work):,} in "
        f"{options.work / EVENTS.file}; {dropped:,} exported ones deleted from the journal"
    )


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = cli.parser(__doc__)
    parser.add_argument(
        "--state", type=Path, help="folder of the journal, the service's RECO_STATE (WORK/state)"
    )
    return parser.parse_args(argv)


def open_journal(path: Path) -> sqlite3.Connection:
    """Open a journal. Raises JobError if it does not exist or has another version."""
    if not path.is_file():
        raise JobError(
            f"{path} is missing: put events into the service with RECO_JOURNAL=normal or full, "
            f"or pass the folder of the journal as --state"
        )
    journal = sqlite3.connect(path, timeout=60, isolation_level=None)
    journal.execute("PRAGMA secure_delete = ON")
    (version,) = journal.execute("PRAGMA user_version").fetchone()
    if version != JOURNAL_VERSION:
        journal.close()
        raise JobError(
            f"{path} is a journal of version {version}, expected {JOURNAL_VERSION}: "
            f"export it with the version of the code that wrote it"
        )
    return journal


def export(journal: sqlite3.Connection, work: Path, to_forget: Tombstones) -> tuple[int, int]:
    """Add new events to the file; return their number and the time of the last event in it."""
    last, added = -1, 0
    with tables.writer(EVENTS, work) as append:
        if (work / EVENTS.file).exists():
            newest = EVENTS.schema.empty_table()
            for batch in tables.batches(EVENTS, work, EVENTS.schema.names):
                append(kept := without_forgotten(pa.Table.from_batches([batch]), to_forget))
                last = max(last, pc.max(batch["started_at"].cast(pa.int64())).as_py() or -1)
                newest = kept.sort_by("started_at")[-1:] if len(kept) else newest
            check_source(journal, newest, work / EVENTS.file)
        for block in since(journal, last):
            append(kept := without_forgotten(block, to_forget))
            added += len(kept)
            last = block["started_at"][-1].as_py()
    return added, last


def check_source(journal: sqlite3.Connection, newest: pa.Table, path: Path) -> None:
    """Raise JobError if the file's newest event (at most one row) is from another journal.

    A user's last events stay in the journal, so the newest event of the file must be in it, unless
    all events of the journal are later.
    """
    for event in newest.select(["started_at", "user_id", "track_id"]).to_pylist():
        at = newest["started_at"].cast(pa.int64())[0].as_py()
        query = "SELECT user_id, track_id FROM events WHERE at <= ? ORDER BY at DESC LIMIT 1"
        row = journal.execute(query, (at,)).fetchone()
        if row not in (None, (event["user_id"], event["track_id"])):
            raise JobError(
                f"{path} holds events of another journal, the last from {event['started_at']}: "
                f"move the file elsewhere, or pass another --work"
            )


def without_forgotten(events: pa.Table, to_forget: Tombstones) -> pa.Table:
    """Return the events (n,) without those from before a user asked to be forgotten."""
    times = events["started_at"].cast(pa.int64()).to_numpy()
    return events.filter(pa.array(~to_forget.covers(events["user_id"].to_numpy(), times)))


def since(journal: sqlite3.Connection, last: int) -> Iterator[pa.Table]:
    """Yield the events after a time (microseconds since 1970), oldest first, block by block."""
    query = "SELECT user_id, track_id, at FROM events WHERE at > ? ORDER BY at LIMIT ?"
    with progress_bar(desc="export", unit=" events", unit_scale=True) as bar:
        while rows := journal.execute(query, (last, BLOCK)).fetchall():
            user, track, at = zip(*rows, strict=True)
            seq = pa.nulls(len(rows), tables.INT)
            yield pa.table([user, track, at, seq], names=EVENTS.schema.names)
            last = rows[-1][2]
            bar.update(len(rows))


def drop(journal: sqlite3.Connection, exported: int) -> int:
    """Delete the exported events of each user but the last JOURNAL_KEEPS; return their number.

    `exported` is the time of the last exported event. There is a transaction for each user, so that
    the service never waits long.
    """
    many = "SELECT user_id FROM events GROUP BY user_id HAVING count(*) > ?"
    old = """
    DELETE FROM events WHERE user_id = ? AND at <= ? AND at < (
        SELECT at FROM events WHERE user_id = ? ORDER BY at DESC LIMIT 1 OFFSET ?)
    """
    users = [user for (user,) in journal.execute(many, (JOURNAL_KEEPS,))]
    return sum(
        journal.execute(old, (user, exported, user, JOURNAL_KEEPS - 1)).rowcount
        for user in progress_bar(users, desc="drop", unit=" users")
    )


if __name__ == "__main__":
    cli.run(main)
