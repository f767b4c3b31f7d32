"""Which requests are let through: keys, local requests only without keys, rate and body limits.

All of these checks use only the head of a request, and run before Litestar's router.
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

# The key that a call needs, if that key is set. All other calls need the key for reading.
LEVELS = {
    "/forget_user": "admin",
    "/load_recommendations": "admin",
    "/put_user_event": "write",
    "/health/live": "open",
    "/health/ready": "open",
}


# requests per second of a caller, if RECO_RATE_LIMIT is not set and the address is not loopback
RATE_ELSEWHERE = 100
MAX_DISCARDED = 16 << 20  # bytes that are read and discarded of a body that is too large
DISCARD_SECONDS = 5.0  # the longest time for that
LONG_PATH = 256  # characters; the level of a path that is so long is not cached


class Refusal(NamedTuple):
    """The answer to a request that is not let through: status, detail and further headers."""

    status: int
    detail: str
    headers: tuple[tuple[bytes, bytes], ...] = ()


NOT_LOCAL = Refusal(
    403, "no keys are set, so only requests from this machine are answered: set RECO_ADMIN_KEY"
)
NO_KEY = Refusal(401, "expected a valid key in X-API-Key", ((b"www-authenticate", b"Bearer"),))
WRONG_KEY = Refusal(403, "the key is valid for other calls, but not for this one")
TOO_LARGE = Refusal(413, f"body: expected at most {MAX_BODY} bytes", ((b"connection", b"close"),))


class Guard:
    """Decides by the settings which requests are let through."""

    def __init__(self, settings: Settings) -> None:
        admin, read, write = (
            key and key.encode()
            for key in (settings.admin_key, settings.read_key, settings.write_key)
        )
        self._keys = [key for key in (admin, read, write) if key]
        self._rate = settings.rate_limit
        self._limiter = RateLimiter()
        levels = ("open", "read", "write", "admin")
        self._keys_of_level: dict[str, list[bytes]] = {level: [] for level in levels}
        for level, key in (("admin", admin), ("read", read), ("write", write)):
            if admin and key:
                self._keys_of_level[level] = [admin, key]

    def refusal(self, scope: Scope) -> Refusal | None:
        """Return the refusal of a request; None if it is let through."""
        server = scope.get("server")
        local = server is None or is_local(server[0])
        client = scope.get("client")
        if not self._keys and not (local and (client is None or is_local(client[0]))):
            return NOT_LOCAL  # behind a local proxy, `client` is the address that the proxy names
        key, length = _key_and_length(scope)
        level = level_of(scope["path"], scope.get("root_path", ""))
        rate = RATE_ELSEWHERE if self._rate is None and not local else self._rate
        if rate and level != "open":
            valid_key = key if _is_one_of(key, self._keys) else b""
            caller = valid_key.decode() or f"address {client and client[0]}"
            wait = self._limiter.wait(caller, rate)
            if wait:
                return _too_many(rate, wait)
        accepted = self._keys_of_level[level]
        if accepted and not _is_one_of(key, accepted):
            return WRONG_KEY if _is_one_of(key, self._keys) else NO_KEY
        if length and (len(length) > 9 or int(length) > MAX_BODY):
            return TOO_LARGE
        return None


def level_of(path: str, root_path: str) -> str:
    """Return the level of the key that a path needs: "open", "read", "write" or "admin"."""
    if len(path) >= LONG_PATH:
        return _level_of.__wrapped__(path, root_path)  # not cached: bounds the cache's memory
    return _level_of(path, root_path)


@lru_cache(1024)
def _level_of(path: str, root_path: str) -> str:
    """Return the level of a path, without repeated slashes and without a proxy's prefix.

    Litestar's router removes both in the same way, so every spelling of a path that reaches a call
    needs that call's key. For example, "//load_recommendations/" needs the admin key.
    """
    if root_path:
        path = path.split(root_path, maxsplit=1)[-1]
    return LEVELS.get(normalize_path(path), "read")


def _key_and_length(scope: Scope) -> tuple[bytes, bytes]:
    """Return the key and the Content-Length of a request's head; b"" for one that is missing."""
    key = bearer = length = b""
    for name, value in scope["headers"]:
        if name == b"x-api-key":
            key = value
        elif name == b"authorization" and value[:7].lower() == b"bearer ":
            bearer = value[7:]
        elif name == b"content-length" and value.isdigit():
            length = value
    return key or bearer, length


def _is_one_of(key: bytes, keys: list[bytes]) -> bool:
    """Return whether a key is one of several, in a time that does not depend on the key."""
    return sum(compare_digest(key, other) for other in keys) > 0


def _too_many(rate: int, wait: float) -> Refusal:
    detail = f"expected at most {rate} requests a second; try again in {wait:.3f} s"
    return Refusal(429, detail, ((b"retry-after", b"%d" % math.ceil(wait)),))


async def refuse(refusal: Refusal, receive: Receive, send: Send) -> None:
    """Send a refusal.

    Of a body that is too large, up to MAX_DISCARDED bytes are read first, for DISCARD_SECONDS at
    most. If the server closed the connection while the client still sends, the connection would be
    reset, and the client would never see the answer.
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
    """Read and discard a request's body, up to MAX_DISCARDED bytes."""
    size = 0
    while size < MAX_DISCARDED:
        message = await receive()
        if message["type"] != "http.request":
            return
        size += len(message["body"])
        if not message["more_body"]:
            return


@lru_cache(4096)
def is_local(host: str) -> bool:
    """Return whether an address can be reached from this machine only.

    A text that is not an IP address counts as local: it is that of a Unix socket, or of a client
    inside the process. A server on a network always gives the IP address of its socket.
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
    """Raise SettingsError if `litestar run` would serve other machines without keys."""
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
