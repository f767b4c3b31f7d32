"""Who may call: keys, this machine only without them, a rate limit and a limit on bodies.

All of it is decided from the head of a request, before the call is looked at.
"""

import asyncio
import ipaddress
import math
from contextlib import suppress
from functools import lru_cache
from hmac import compare_digest
from typing import NamedTuple

import msgspec
from click import Context
from litestar.types import Receive, Scope, Send
from litestar.utils import normalize_path

from api.http.rate_limit import RateLimiter
from api.schemas import MAX_BODY, Problem
from api.settings import Settings, SettingsError

# Which key a call asks for, where that key is set; all others ask for the one for reading.
LEVELS = {
    "/forget_user": "admin",
    "/load_recommendations": "admin",
    "/put_user_event": "write",
    "/health/live": "open",
    "/health/ready": "open",
}


RATE_ELSEWHERE = 100  # requests a second where nothing is set and the address is not loopback
DISCARDED = 16 << 20  # bytes of a body that is too large
DISCARD_SECONDS = 5.0
LONG = 256  # characters of a path


class Refusal(NamedTuple):
    """An answer that takes the place of the call's own."""

    status: int
    detail: str
    headers: tuple[tuple[bytes, bytes], ...] = ()


NOT_HERE = Refusal(403, "without keys only this machine is served: set RECO_ADMIN_KEY")
NO_KEY = Refusal(401, "expected a valid key in X-API-Key", ((b"www-authenticate", b"Bearer"),))
OTHER_KEY = Refusal(403, "the key is for other calls")
TOO_LARGE = Refusal(413, f"body: expected at most {MAX_BODY} bytes", ((b"connection", b"close"),))


class Guard:
    """Lets requests through, or refuses them, by the settings."""

    def __init__(self, settings: Settings) -> None:
        admin, read, write = (
            key and key.encode()
            for key in (settings.admin_key, settings.read_key, settings.write_key)
        )
        self._keys = [key for key in (admin, read, write) if key]
        self._rate = settings.rate_limit
        self._rates = RateLimiter()
        self._fitting: dict[str, list[bytes]] = {"open": [], "read": [], "write": [], "admin": []}
        for level, key in (("admin", admin), ("read", read), ("write", write)):
            if admin and key:
                self._fitting[level] = [admin, key]

    def refusal(self, scope: Scope) -> Refusal | None:
        """Why the request is not let through, if it isn't."""
        server = scope.get("server")
        local = server is None or is_local(server[0])
        client = scope.get("client")
        if not self._keys and not (local and (client is None or is_local(client[0]))):
            return NOT_HERE  # a proxy on this machine names its client, too
        key, length = _head(scope)
        level = level_of(scope["path"], scope.get("root_path", ""))
        rate = RATE_ELSEWHERE if self._rate is None and not local else self._rate
        if rate and level != "open":
            known = key if _among(key, self._keys) else b""
            wait = self._rates.wait(known.decode() or f"address {client and client[0]}", rate)
            if wait:
                return _too_many(rate, wait)
        fitting = self._fitting[level]
        if fitting and not _among(key, fitting):
            return OTHER_KEY if _among(key, self._keys) else NO_KEY
        if length and (len(length) > 9 or int(length) > MAX_BODY):
            return TOO_LARGE
        return None


def level_of(path: str, root_path: str) -> str:
    """Which key a path asks for."""
    known = len(path) < LONG  # of others nothing is remembered
    return _level_of(path, root_path) if known else _level_of.__wrapped__(path, root_path)


@lru_cache(1024)
def _level_of(path: str, root_path: str) -> str:
    """As Litestar's router, it takes away slashes too many and a proxy's prefix: another spelling
    asks for the same key.
    """
    if root_path:
        path = path.split(root_path, maxsplit=1)[-1]
    return LEVELS.get(normalize_path(path), "read")


def _head(scope: Scope) -> tuple[bytes, bytes]:
    """The key and the length of the body that a request's head gives; b"" where it doesn't."""
    key = bearer = length = b""
    for name, value in scope["headers"]:
        if name == b"x-api-key":
            key = value
        elif name == b"authorization" and value[:7].lower() == b"bearer ":
            bearer = value[7:]
        elif name == b"content-length" and value.isdigit():
            length = value
    return key or bearer, length


def _among(key: bytes, keys: list[bytes]) -> bool:
    """Whether it is one of the keys, in a time that doesn't depend on how much of one agrees."""
    return sum(compare_digest(key, other) for other in keys) > 0


def _too_many(rate: int, wait: float) -> Refusal:
    detail = f"expected at most {rate} requests a second; try again in {wait:.3f} s"
    return Refusal(429, detail, ((b"retry-after", b"%d" % math.ceil(wait)),))


async def refuse(refusal: Refusal, receive: Receive, send: Send) -> None:
    """Answer with a refusal.

    A body that is too large is read first, up to DISCARDED bytes and for DISCARD_SECONDS: a server
    that closes while the client still sends resets the connection, and the client never sees why.
    """
    if refusal is TOO_LARGE:
        with suppress(TimeoutError):
            await asyncio.wait_for(_discard_body(receive), DISCARD_SECONDS)
    body = msgspec.json.encode(Problem(refusal.status, refusal.detail))
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        *refusal.headers,
    ]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def _discard_body(receive: Receive) -> None:
    """Read a request's body, or the first DISCARDED bytes of it, and keep nothing."""
    size = 0
    while size < DISCARDED:
        message = await receive()
        if message["type"] != "http.request":
            return
        size += len(message["body"])
        if not message["more_body"]:
            return


@lru_cache(4096)
def is_local(host: str) -> bool:
    """Whether a server's address can be reached from this machine only.

    Servers on a network name the address of their socket; what is none belongs to a Unix socket or
    to a client inside the process.
    """
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return True
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return address.is_loopback


def check_host(settings: Settings, context: Context | None) -> None:
    """SettingsError where `litestar run` would serve other machines without keys."""
    options = context.params if context else {}
    host = options.get("host") or "127.0.0.1"
    on_network = not options.get("uds") and options.get("fd") is None
    local = host == "localhost" or (_is_address(host) and is_local(host))
    if on_network and not local and not settings.admin_key:
        raise SettingsError(
            f"--host {host}: expected 127.0.0.1 where there are no keys; set RECO_ADMIN_KEY to "
            "serve other machines"
        )


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
