"""Events in Valkey: the keys, the scripts and the checks that jobs and service share.

All keys begin with "reco:". A user belongs to one of 64 shards, by a hash of the id. The braces are
Valkey's hash tag: were the keys spread over a cluster, those of a shard would stay together, and
each script but FORGET touches one shard only.

    reco:{9}      hash     of shard 9: `seq`, the newest place in its sequence; `waiting`, how many
                           events are not exported yet
    reco:{9}e47   list     the tracks of the last events of user 47, newest first
    reco:{9}u47   list     the events of user 47 that are not exported, oldest first: three numbers
                           each, which are track, seq and time
    reco:{9}w     set      the users of shard 9 who have such events
    reco:tracks   sorted set   where ids of tracks are text: each text, by its number 1, 2, ...
    reco:kinds    hash     of which kinds the ids are: `users` and `tracks`
    reco:forgotten        sorted set   who asked to be forgotten, by the seq of the tombstone
    reco:forgotten:at     hash     when they asked
    reco:forgotten:last   string   the largest seq of a tombstone
    reco:forgotten:key    string   the key of the hashes that stand for users whose ids are text
    reco:forgotten:left   string   how often users were forgotten since the file was rewritten
    reco:moving           string   is there while jobs.move_events writes

A tombstone is stored under "i47" for the user 47, and under "h" and a keyed hash for a text. In the
files of the embedded store the key lies in a file beside the tombstones. Here several hosts need
the same one, so it is made once, by SET NX, and kept in Valkey. Who can read Valkey's data can
therefore find out whether an id that they know was forgotten, but cannot list the ids.

Order and time are two things, as in the journal (see contract.journal). A seq is larger than all
before it in its shard, and not smaller than the clock of Valkey's host; and it is the number of
its shard modulo 64. So no two events of all shards share one, and the jobs can tell from a seq to
which shard it belongs. A tombstone has a larger seq than all tombstones before it, in all shards.

    shard 9, the clock says   newest before   seq       at
    1000                      0               969       1000     (969 = 15 * 64 + 9)
    1000                      969             1033      1000
    500 (put back)            1033            1097      500

A stream would be the usual log. But XDEL only marks an entry as deleted: its bytes stay in the
stream, in RDB files and in the base of the append-only file. Lists by user forget by one DEL.
"""

import ssl
from collections.abc import Mapping
from hashlib import sha1
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit
from zlib import crc32

from jobs.contract.journal import Id

SHARDS = 64
PORT = 6379
KINDS = "reco:kinds"
TRACKS = "reco:tracks"
FORGOTTEN = "reco:forgotten"
FORGOTTEN_AT = "reco:forgotten:at"
FORGOTTEN_LAST = "reco:forgotten:last"
FORGOTTEN_KEY = "reco:forgotten:key"
FORGOTTEN_LEFT = "reco:forgotten:left"
MOVING = "reco:moving"
HOSTS = "valkey://HOST:PORT/DB, several hosts separated by commas"

# Scripts that make room, or that must work where memory is short, begin with this line. Others are
# refused as a whole at `maxmemory`, before they have done anything.
ALLOWED_AT_MAXMEMORY = "#!lua flags=allow-oom\n"

NEXT_SEQ = """
local now = redis.call('TIME')
local at = now[1] * 1000000 + now[2]
local shard = tonumber(ARGV[1])
local seq = at - at % 64 + shard
local newest = tonumber(redis.call('HGET', KEYS[1], 'seq') or 0)
if seq <= newest then seq = newest + 64 end
"""

# Keys: the shard, the user's two lists, the set of waiting users.
# Arguments: the shard's number, the user, the track's number, how many events the list keeps.
PUT = (
    NEXT_SEQ
    + """
local text = string.format('%.0f', seq)
redis.call('HSET', KEYS[1], 'seq', text)
redis.call('HINCRBY', KEYS[1], 'waiting', 1)
redis.call('LPUSH', KEYS[2], ARGV[3])
redis.call('LTRIM', KEYS[2], 0, ARGV[4] - 1)
if redis.call('RPUSH', KEYS[3], ARGV[3], text, string.format('%.0f', at)) == 3 then
    redis.call('SADD', KEYS[4], ARGV[2])
end
return 1
"""
)

# Keys: as those of PUT, then FORGOTTEN, FORGOTTEN_AT, FORGOTTEN_LAST, FORGOTTEN_LEFT.
# Arguments: the shard's number, the user, the name of the tombstone.
# Returns the tombstone's seq and time, and how many events were removed. The list of the last
# events and the log overlap: the longer one has all events of the shorter one.
FORGET = (
    ALLOWED_AT_MAXMEMORY
    + NEXT_SEQ
    + """
local last = tonumber(redis.call('GET', KEYS[7]) or 0)
if seq <= last then seq = last - last % 64 + 64 + shard end
local text, time = string.format('%.0f', seq), string.format('%.0f', at)
local listed = redis.call('LLEN', KEYS[2])
local waiting = redis.call('LLEN', KEYS[3]) / 3
redis.call('HSET', KEYS[1], 'seq', text)
redis.call('HINCRBY', KEYS[1], 'waiting', -waiting)
redis.call('DEL', KEYS[2], KEYS[3])
redis.call('SREM', KEYS[4], ARGV[2])
redis.call('ZADD', KEYS[5], text, ARGV[3])
redis.call('HSET', KEYS[6], ARGV[3], time)
redis.call('SET', KEYS[7], text)
redis.call('INCR', KEYS[8])
return {text, time, math.max(listed, waiting)}
"""
)

# Keys: FORGOTTEN, FORGOTTEN_AT. Argument: a seq.
# Returns of each tombstone after that seq its name, its seq and its time, one after another.
FORGOTTEN_SINCE = """
local found, result = redis.call('ZRANGE', KEYS[1], '(' .. ARGV[1], '+inf', 'BYSCORE'), {}
for _, name in ipairs(found) do
    table.insert(result, name)
    table.insert(result, string.format('%.0f', redis.call('ZSCORE', KEYS[1], name)))
    table.insert(result, redis.call('HGET', KEYS[2], name))
end
return result
"""

# Keys: TRACKS. Argument: a text. Returns its number; a new text gets the next one.
NUMBER = """
local number = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not number then
    number = redis.call('ZCARD', KEYS[1]) + 1
    redis.call('ZADD', KEYS[1], number, ARGV[1])
end
return tonumber(number)
"""

# Keys: KINDS, then all shards. Arguments: the kinds of users and of tracks.
# Sets the kinds if there has never been an event. Returns those that count.
ADOPT = (
    ALLOWED_AT_MAXMEMORY
    + """
local used = redis.call('EXISTS', unpack(KEYS, 2))
if used == 0 or redis.call('EXISTS', KEYS[1]) == 0 then
    redis.call('HSET', KEYS[1], 'users', ARGV[1], 'tracks', ARGV[2])
end
return redis.call('HMGET', KEYS[1], 'users', 'tracks')
"""
)

# Keys: all shards. Argument: a seq, or 0. Lets all shards go on after the newest seq of all, the
# clock and the argument, so that an export may take what is there, and later events come after it.
# Returns that seq.
RAISE = (
    ALLOWED_AT_MAXMEMORY
    + """
local now = redis.call('TIME')
local newest = math.max(now[1] * 1000000 + now[2], tonumber(ARGV[1]))
for _, key in ipairs(KEYS) do
    newest = math.max(newest, tonumber(redis.call('HGET', key, 'seq') or 0))
end
local base = newest - newest % 64 + 64
for shard, key in ipairs(KEYS) do
    redis.call('HSET', key, 'seq', string.format('%.0f', base + shard - 1))
end
return string.format('%.0f', base + 63)
"""
)

# Keys: as those of PUT. Arguments: the user, the last seq that was exported.
# Removes the user's events up to that seq from the log; returns how many.
EXPORTED = (
    ALLOWED_AT_MAXMEMORY
    + """
local removed = 0
while true do
    local seq = redis.call('LINDEX', KEYS[3], 1)
    if not seq or tonumber(seq) > tonumber(ARGV[2]) then break end
    redis.call('LPOP', KEYS[3], 3)
    removed = removed + 1
end
if redis.call('EXISTS', KEYS[3]) == 0 then redis.call('SREM', KEYS[4], ARGV[1]) end
redis.call('HINCRBY', KEYS[1], 'waiting', -removed)
return removed
"""
)


def sha_of(script: str) -> str:
    """Return what EVALSHA calls a script."""
    return sha1(script.encode(), usedforsecurity=False).hexdigest()


class Server(NamedTuple):
    """Where the events are: the primary is the first of the hosts that says that it is one."""

    hosts: tuple[tuple[str, int], ...]
    db: int
    user: str | None
    tls: bool

    def __str__(self) -> str:
        """Return the address, which never has a password."""
        hosts = ",".join(f"[{h}]:{p}" if ":" in h else f"{h}:{p}" for h, p in self.hosts)
        user = f"{self.user}@" if self.user else ""
        return f"{'valkeys' if self.tls else 'valkey'}://{user}{hosts}/{self.db}"


def parse_server(text: str) -> Server:
    """Return the server that an address names; ValueError with what is expected.

    >>> str(parse_server("valkey://reco@db1,db2:6380/3"))
    'valkey://reco@db1:6379,db2:6380/3'
    """
    expected = f"{HOSTS}; or valkeys:// for TLS"
    scheme, _, rest = text.partition("://")
    names, slash, db = rest.partition("/")
    user, at, names = names.rpartition("@")
    if ":" in user:
        raise ValueError("no password in the address: set RECO_EVENTS_PASSWORD or its file instead")
    if scheme not in ("valkey", "valkeys") or not names or (at and not user):
        raise ValueError(expected)
    if (slash and not (db.isascii() and db.isdigit())) or len(db) > 4:
        raise ValueError(expected)
    hosts = []
    for name in names.split(","):
        try:
            parts = urlsplit(f"//{name}")
            host, port = parts.hostname, parts.port
        except ValueError:
            raise ValueError(expected) from None
        if not host or parts.path or parts.query or parts.fragment:
            raise ValueError(expected)
        hosts.append((host, PORT if port is None else port))
    return Server(tuple(hosts), int(db or 0), unquote(user) or None, scheme == "valkeys")


class Access(NamedTuple):
    """Password and certificates with which a client connects to Valkey."""

    password: str | None = None
    ca: Path | None = None  # a file of certificates; None: those of the system
    certificate: Path | None = None  # of the client
    certificate_key: Path | None = None

    def __repr__(self) -> str:
        """Return no part of the password."""
        return "Access(...)"


def access_from(environment: Mapping[str, str]) -> Access:
    """Return the password and certificates that the variables RECO_EVENTS_* give a job.

    Raises ValueError if a file is not there. The service reads the same variables.
    """
    found = {
        name: environment.get(f"RECO_EVENTS_{name.upper()}")
        for name in ("password", "password_file", "ca", "certificate", "certificate_key")
    }
    file = found.pop("password_file")
    password = password_in(Path(file)) if file else found.pop("password")
    files = (found.get(name) for name in ("ca", "certificate", "certificate_key"))
    return Access(password, *(Path(text) if text else None for text in files))


def password_in(file: Path) -> str:
    """Return the password in a file, without the end of its line; ValueError if there is none."""
    try:
        text = file.read_text().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"a file with the password ({error})") from None
    if not text or len(text) > 512:
        raise ValueError("a file with the password, a text of at most 512 characters")
    return text


def tls_context(server: Server, access: Access) -> ssl.SSLContext | None:
    """Return how to encrypt, None without TLS. ValueError if a certificate can't be used.

    The server's name is always checked.
    """
    if not server.tls:
        return None
    try:
        context = ssl.create_default_context(cafile=access.ca)
        if access.certificate:
            context.load_cert_chain(access.certificate, access.certificate_key)
    except (OSError, ssl.SSLError) as error:
        raise ValueError(
            f"certificates of Valkey can't be used ({error}): check RECO_EVENTS_CA, "
            "RECO_EVENTS_CERTIFICATE and RECO_EVENTS_CERTIFICATE_KEY"
        ) from None
    return context


def shard_of(user_id: Id) -> int:
    """Return the number of a user's shard.

    >>> shard_of(47), shard_of("47"), shard_of("anna")
    (7, 7, 55)
    """
    return crc32(str(user_id).encode()) % SHARDS


def list_of(user_id: Id) -> str:
    """Return the key of a user's last events."""
    return f"reco:{{{crc32(str(user_id).encode()) % SHARDS}}}e{user_id}"


class Place(NamedTuple):
    """Where the events of a user are."""

    shard: int
    keys: tuple[str, str, str, str]  # of the shard, the last events, the log, the waiting users


def place_of(user_id: Id) -> Place:
    """Return where the events of a user are.

    >>> place_of(47).keys
    ('reco:{7}', 'reco:{7}e47', 'reco:{7}u47', 'reco:{7}w')
    """
    number = crc32(str(user_id).encode()) % SHARDS
    shard = f"reco:{{{number}}}"
    return Place(number, (shard, f"{shard}e{user_id}", f"{shard}u{user_id}", f"{shard}w"))


def shards() -> list[str]:
    """Return the keys of all shards."""
    return [f"reco:{{{shard}}}" for shard in range(SHARDS)]


def name_for(user: int | bytes) -> bytes:
    """Return what a tombstone is stored under, of a whole number or of the hash of a text."""
    return b"i%d" % user if isinstance(user, int) else b"h" + user


def name_from(stored: bytes) -> int | bytes:
    """The reverse of `name_for`."""
    return int(stored[1:]) if stored[:1] == b"i" else stored[1:]


# what CONFIG GET must give: the setting, the values that are right, and why
PROMISES = (
    ("appendonly", ("yes",), "without it a restart of Valkey loses all events"),
    (
        "appendfsync",
        ("always", "no"),
        "everysec acknowledges events that a crash loses; `no` loses none in a crash of Valkey, "
        "but in one of its host; `always` loses none",
    ),
    ("maxmemory-policy", ("noeviction",), "any other policy deletes events when memory is short"),
    ("save", ("",), "a snapshot would keep the events of users who were forgotten"),
)
ASKED = tuple(name for name, _, _ in PROMISES)


def broken_promise(config: Mapping[str, str]) -> str | None:
    """Return which line of Valkey's configuration is to be changed, and why; None if none is.

    >>> broken_promise({"appendonly": "no"})[:45]
    'appendonly is no: write `appendonly yes`, sin'
    """
    for name, right, why in PROMISES:
        found = config.get(name)
        if found not in right:
            wanted = " or ".join(f"`{name} {value or chr(34) * 2}`" for value in right)
            shown = "unknown" if found is None else found or '""'
            return f"{name} is {shown}: write {wanted}, since {why}"
    return None
