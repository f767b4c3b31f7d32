"""Events and tombstones in Valkey, as jobs read and write them; the keys are in contract.valkey."""

import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from jobs.contract import journal, storage, valkey
from jobs.contract.ids import INTEGER, TEXT
from jobs.contract.journal import Id, Tombstone
from jobs.contract.storage import JobError
from jobs.contract.text_ids import Kinds
from jobs.data.valkey_client import Client


class Row(NamedTuple):
    """An event that is not exported yet."""

    seq: int
    user: Id
    track: int  # where ids are text: the number that stands for the text
    at: int  # microseconds since 1970


def kinds(client: Client) -> Kinds:
    """Return of which kinds the ids are. JobError if no service has ever used the server."""
    found = client.ask("HMGET", valkey.KINDS, "users", "tracks")
    if None in found:
        raise JobError("Valkey has no events: check --store, or put events into the service first")
    return Kinds(*(kind.decode() for kind in found))


def raise_seqs(client: Client, after: int = 0) -> int:
    """Let later events come after all that are there now, and after a seq; return up to where."""
    return int(client.script(valkey.RAISE, valkey.shards(), after))


def waiting_users(client: Client, kind: str) -> list[Id]:
    """Return the users with events that are not exported."""
    replies = client.ask_all([("SMEMBERS", f"{shard}w") for shard in valkey.shards()])
    texts = (text.decode() for found in replies for text in found)
    return [int(text) if kind == INTEGER else text for text in texts]


def waiting(client: Client, users: Sequence[Id]) -> Iterator[Row]:
    """Yield the events of users that are not exported, each user's in their order."""
    keys = [valkey.place_of(user).keys[2] for user in users]
    replies = client.ask_all([("LRANGE", key, 0, -1) for key in keys])
    for user, found in zip(users, replies, strict=True):
        numbers = [*map(int, found)]
        for track, seq, at in zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True):
            yield Row(seq, user, track, at)


def texts_of(client: Client, numbers: Sequence[int]) -> dict[int, str]:
    """Return the texts for which numbers stand, where ids of tracks are text."""
    replies = client.ask_all([("ZRANGE", valkey.TRACKS, n - 1, n - 1) for n in numbers])
    return {n: text.decode() for n, (text,) in zip(numbers, replies, strict=True)}


def remove_exported(client: Client, users: Sequence[Id], until: int) -> int:
    """Remove the users' events up to a seq from the log; return how many there were."""
    commands = [
        ("EVAL", valkey.EXPORTED, 4, *valkey.place_of(user).keys, user, until) for user in users
    ]
    return sum(client.ask_all(commands))


def forgotten(client: Client) -> tuple[dict[int | bytes, Tombstone], bytes]:
    """Return all tombstones by the names of their users, and the key of text ids' hashes."""
    found = client.script(valkey.FORGOTTEN_SINCE, [valkey.FORGOTTEN, valkey.FORGOTTEN_AT], 0)
    stored = {
        valkey.name_from(name): Tombstone(int(seq), int(at))
        for name, seq, at in zip(found[::3], found[1::3], found[2::3], strict=True)
    }
    return stored, client.ask("GET", valkey.FORGOTTEN_KEY) or b""


def save_forgotten(path: Path, stored: Mapping[int | bytes, Tombstone], key: bytes) -> None:
    """Write tombstones into a file as the embedded store has them, beside those that are there.

    JobError if the file has tombstones with another key.
    """
    if not stored:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = TEXT if any(isinstance(user, bytes) for user in stored) else INTEGER
    if kind == TEXT:
        _save_key(path, key)
    try:
        with closing(sqlite3.connect(path, 60, isolation_level=None)) as db:
            db.execute("PRAGMA synchronous = FULL")
            db.execute("BEGIN IMMEDIATE")
            journal.upgrade_forgotten(db, kind)
            if kind == TEXT:
                journal.note_key(db, key)
            rows = [(user, *tombstone) for user, tombstone in stored.items()]
            db.executemany("INSERT OR REPLACE INTO forgotten VALUES (?, ?, ?)", rows)
            db.execute("COMMIT")
    except sqlite3.Error as error:
        raise JobError(f"{path} can't be written ({error}): move it elsewhere") from None


def _save_key(path: Path, key: bytes) -> None:
    file = path.with_suffix(".key")
    if not file.exists():
        temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
        temporary.unlink(missing_ok=True)
        temporary.touch(0o600)
        temporary.write_bytes(key)
        temporary.replace(file)
        storage.fsync_folder(file.parent)
    if file.read_bytes() != key:
        raise JobError(f"{file} is not the key of the tombstones in Valkey: move both files away")
