"""What a service asks Valkey at the begin of a session and each second, beside lists and puts."""

from secrets import token_bytes
from typing import NamedTuple

from hiredis import ReplyError

from api.events.health import JournalHealth
from api.events.valkey_client import Command, Connection, Refused, checked
from api.events.valkey_session import Session
from jobs.contract import valkey
from jobs.contract.journal import KEY_BYTES, OtherKind, Tombstone, named_kinds
from jobs.contract.text_ids import Kinds

SINCE, ADOPT = valkey.sha_of(valkey.FORGOTTEN_SINCE), valkey.sha_of(valkey.ADOPT)


class Found(NamedTuple):
    """What Valkey has."""

    key: bytes | None  # of the tombstones of text ids
    kinds: Kinds | None  # of its ids; None before the first service


async def first_look(session: Session) -> Found:
    """Return what Valkey has, after making a key if there is none. Lost or Refused."""
    ask: list[Command] = [
        ("EXISTS", valkey.MOVING),
        ("GET", valkey.FORGOTTEN_KEY),
        ("HMGET", valkey.KINDS, "users", "tracks"),
    ]
    moving, key, kinds = checked(await session.writes.ask(ask))
    if moving:
        raise Refused(
            "jobs.move_events is writing into it, or was stopped too early: wait until it ends; "
            "if it was stopped, empty the database by FLUSHDB and move the events again"
        )
    if key is None:
        make: Command = ("SET", valkey.FORGOTTEN_KEY, token_bytes(KEY_BYTES), "NX")
        _, key = checked(await session.writes.ask([make, ("GET", valkey.FORGOTTEN_KEY)]))
    return Found(key, _kinds(kinds))


class Looked(NamedTuple):
    """What a look each second finds."""

    found: Found
    last_tombstone: int  # its seq
    left: int  # how often users were forgotten since the file was written anew


async def look(session: Session) -> Looked:
    """Return what other processes may have changed. Lost or Refused."""
    ask: list[Command] = [
        ("MGET", valkey.FORGOTTEN_LAST, valkey.FORGOTTEN_KEY, valkey.FORGOTTEN_LEFT),
        ("HMGET", valkey.KINDS, "users", "tracks"),
    ]
    (last, key, left), kinds = checked(await session.reads.ask(ask))
    return Looked(Found(key, _kinds(kinds)), int(last or 0), int(left or 0))


def _kinds(found: list[bytes | None]) -> Kinds | None:
    texts = [kind.decode() for kind in found if kind]
    return Kinds(*texts) if len(texts) == len(found) else None


async def agree(session: Session, kinds: Kinds) -> None:
    """Let Valkey have ids of these kinds; OtherKind if it has events with others."""
    keys = [valkey.KINDS, *valkey.shards()]
    ask: list[Command] = [("EVALSHA", ADOPT, len(keys), *keys, *kinds)]
    (found,) = checked(await session.writes.ask(ask))
    if (there := _kinds(found)) != kinds:
        raise OtherKind(f"those of the events in Valkey are {named_kinds(there or Kinds())}")


async def tombstones_since(connection: Connection, seq: int) -> dict[int | bytes, Tombstone]:
    """Return the tombstones after a seq by the names of their users. Lost or Refused."""
    ask: list[Command] = [("EVALSHA", SINCE, 2, valkey.FORGOTTEN, valkey.FORGOTTEN_AT, seq)]
    (found,) = checked(await connection.ask(ask))
    return {
        valkey.name_from(name): Tombstone(int(place), int(at))
        for name, place, at in zip(found[::3], found[1::3], found[2::3], strict=True)
    }


async def not_exported(session: Session) -> int:
    """Return how many events the jobs have not taken yet. Lost or Refused."""
    ask: list[Command] = [("HGET", shard, "waiting") for shard in valkey.shards()]
    return sum(int(count or 0) for count in checked(await session.reads.ask(ask)))


async def rewrite(session: Session, left: int, health: JournalHealth) -> None:
    """Have Valkey write its file anew, so that what was forgotten is not on the disk either.

    Valkey refuses while it does so already; then the next round tries again.
    """
    (reply,) = await session.writes.ask([("BGREWRITEAOF",)])
    if not isinstance(reply, ReplyError):
        checked(await session.writes.ask([("DECRBY", valkey.FORGOTTEN_LEFT, left)]))
        health.note_success("rewrite")
    elif "in progress" not in str(reply):
        health.note_failure("rewrite", Refused(f"BGREWRITEAOF: {reply}"))
