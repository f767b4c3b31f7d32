"""Which requests are let through: keys, local requests only without keys, rate and body limits.

All of these checks use only the head of a request, and run before Litestar's router.

A browser carries requests of any web page to this machine. Two checks stop such pages:

    a page of evil.example whose name    The browser takes the answer for evil.example's own, and
    is made to mean 127.0.0.1            shows it to the page. But the header Host is evil.example,
    (DNS rebinding)                      and only names of this machine and RECO_HOSTS are accepted.
    a page that posts a form to          The page does not see the answer, but the call would be
    127.0.0.1, or has an image there     done. The browser says so by Sec-Fetch-Site or Origin, and
                                         calls that change something refuse that.
"""

import asyncio
import hmac
import ipaddress
import math
import time
from contextlib import suppress
from functools import lru_cache
from hmac import compare_digest
from typing import NamedTuple
from urllib.parse import parse_qsl, urlencode

import msgspec
from click import Context
from litestar.types import Receive, Scope, Send
from litestar.utils import normalize_path

from api.http.rate_limit import RateLimiter
from api.schemas import MAX_BODY, MAX_TEXT_BATCH, Access, Problem
from api.settings import Settings, SettingsError

# The key that a call needs, if that key is set. All other calls need the key for reading.
LEVELS = {
    "/forget_user": "admin",
    "/load_recommendations": "admin",
    "/put_user_event": "write",
    "/health/live": "open",
    "/health/ready": "open",
    # of the console; "page" needs no key but counts for the rate, "people" shows listeners
    "/": "page",
    "/access": "page",
    "/search": "console",
    "/tracks": "console",
    "/releases": "console",
    "/user": "people",
}
# levels of all paths that begin so
BELOW = {"/console/": "page file", "/reports/": "report", "/schema/files/": "file"}
OF_CONSOLE = frozenset({"page", "page file", "console", "people", "report"})
FILES = frozenset({"page file", "file"})  # levels of files without any data
CHANGING = frozenset({"write", "admin"})  # levels of calls that change something
THIS_MACHINE = frozenset({b"localhost", b"127.0.0.1", b"[::1]"})
TICKET_SECONDS = 600  # for which the address of a report opens it without a key


# requests per second of a caller, if RECO_RATE_LIMIT is not set and the address is not loopback
RATE_ELSEWHERE = 100
# files per second of a caller, if the limit is lower: a browser asks for all files of a page at
# once, and the page would stay blank without one of them
RATE_OF_FILES = 50
MAX_DISCARDED = 16 << 20  # bytes that are read and discarded of a body that is too large
DISCARD_SECONDS = 5.0  # the longest time for that
MAX_KNOWN_HOSTS = 1024  # headers: names with ports
LONG_PATH = 256  # characters; the level of a path that is so long is not cached


class Refusal(NamedTuple):
    """The answer to a request that is not let through: status, detail and further headers."""

    status: int
    detail: str
    headers: tuple[tuple[bytes, bytes], ...] = ()


NOT_LOCAL = Refusal(
    403, "no keys are set, so only requests from this machine are answered: set RECO_ADMIN_KEY"
)
OTHER_HOST = Refusal(
    403,
    "the header Host names none of localhost, 127.0.0.1, [::1] and RECO_HOSTS: if clients call "
    "the service by this name, add it to RECO_HOSTS (this check stops DNS rebinding)",
)
OTHER_SITE = Refusal(
    403,
    "this call changes something, so pages of other sites cannot send it (Origin or "
    "Sec-Fetch-Site names another site); a proxy must pass on Host with its port",
)
NO_CONSOLE = Refusal(404, "Not Found")
NO_KEY = Refusal(401, "expected a valid key in X-API-Key", ((b"www-authenticate", b"Bearer"),))
WRONG_KEY = Refusal(403, "the key is valid for other calls, but not for this one")
CLOSE = ((b"connection", b"close"),)
TOO_LARGE = Refusal(413, f"body: expected at most {MAX_BODY} bytes", CLOSE)
TOO_LARGE_BATCH = Refusal(413, f"body: expected at most {MAX_TEXT_BATCH} bytes", CLOSE)


class Guard:
    """Decides by the settings which requests are let through."""

    def __init__(self, settings: Settings) -> None:
        admin, read, write, console = (
            key and key.encode()
            for key in (
                settings.admin_key,
                settings.read_key,
                settings.write_key,
                settings.console_key,
            )
        )
        self._names = {"admin": admin, "read": read, "write": write, "console": console}
        self._keys = [key for key in (admin, read, write, console) if key]
        self._rate = settings.rate_limit
        self._limiter = RateLimiter()
        self.console = settings.console == "on"
        # which names are accepted in the header Host; None: all. Without keys only this machine is
        # served, and nothing else stops DNS rebinding: a page of another site whose name resolves
        # to this machine. With keys the service may have any name, which only the operator knows.
        names = {name.encode() for name in settings.hosts or ()}
        self._hosts = THIS_MACHINE | names if names or not self._keys else None
        self._known_hosts: set[bytes] = set()  # headers that were accepted before
        # the keys that open each level; none: no key is needed
        self._keys_of_level: dict[str, list[bytes]] = {
            "open": [],
            "page": [],
            "page file": [],
            "file": [],
            "read": [key for key in (admin, read, console) if key] if read else [],
            "write": [key for key in (admin, write) if key] if write else [],
            "people": [key for key in (admin, console) if key],
            "admin": [admin] if admin else [],
        }
        for level in ("console", "report"):
            self._keys_of_level[level] = self._keys_of_level["read"]

    def refusal(self, scope: Scope, text_users: bool = False) -> Refusal | None:
        """Return the refusal of a request; None if it is let through.

        Where user ids are text, the body of a batch may be larger.
        """
        server = scope.get("server")
        local = server is None or is_local(server[0])
        client = scope.get("client")
        if not self._keys and not (local and (client is None or is_local(client[0]))):
            return NOT_LOCAL  # behind a local proxy, `client` is the address that the proxy names
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"")
        if not (self._hosts is None or host in self._known_hosts or self._is_known(host, server)):
            return OTHER_HOST
        level = level_of(scope["path"], scope.get("root_path", ""))
        if level in CHANGING and _is_of_another_site(headers, host):
            return OTHER_SITE
        key = _key(headers) if self._keys else b""
        rate = RATE_ELSEWHERE if self._rate is None and not local else self._rate
        if rate and level != "open" and (refusal := self._of_rate(rate, level, key, client)):
            return refusal
        if not self.console and level in OF_CONSOLE:
            return NO_CONSOLE
        accepted = self._keys_of_level[level]
        if accepted and not _is_one_of(key, accepted):
            if level == "report" and self._has_ticket(scope):
                return None
            return self._of_key(key)
        length = headers.get(b"content-length")
        return _of_length(length, scope["path"], text_users) if length else None

    def _of_rate(
        self, rate: int, level: str, key: bytes, client: tuple[str, int] | None
    ) -> Refusal | None:
        """Return the refusal of a caller, a key or an address, that calls too often."""
        valid_key = key if _is_one_of(key, self._keys) else b""
        caller = valid_key.decode() or f"address {client and client[0]}"
        if level in FILES and rate < RATE_OF_FILES:
            caller, rate = f"files of {caller}", RATE_OF_FILES
        wait = self._limiter.wait(caller, rate)
        return _too_many(rate, wait) if wait else None

    def _is_known(self, host: bytes, server: tuple[str, int | None] | None) -> bool:
        """Return whether the header Host has a name of this service, or there is no such header.

        The address that the request came to is one too: a page can't have it for a name.
        """
        name = without_port(host)
        if not host or name in (self._hosts or ()):
            if len(self._known_hosts) < MAX_KNOWN_HOSTS:
                self._known_hosts.add(host)
            return True
        return server is not None and name == server[0].encode()

    def has_call(self, path: str) -> bool:
        """Return whether the settings leave a call out: RECO_CONSOLE=off does so."""
        return self.console or level_of(path, "") not in OF_CONSOLE

    def refusal_of_people(self, scope: Scope) -> Refusal | None:
        """Return the refusal of a request that asks for listeners; None if it may see them."""
        accepted = self._keys_of_level["people"]
        key = _key(dict(scope["headers"]))
        return None if not accepted or _is_one_of(key, accepted) else self._of_key(key)

    def _of_key(self, key: bytes) -> Refusal:
        """Return the refusal of a key that does not open the call: a valid one is for others."""
        return WRONG_KEY if _is_one_of(key, self._keys) else NO_KEY

    def access(self, scope: Scope) -> Access:
        """Return what the key of a request opens."""
        key = _key(dict(scope["headers"]))
        names = [name for name, other in self._names.items() if other and _is_one_of(key, [other])]
        opens = {
            level: not accepted or _is_one_of(key, accepted)
            for level, accepted in self._keys_of_level.items()
        }
        return Access(
            bool(self._keys),
            names[0] if names else "unknown" if key else "none",
            opens["read"],
            opens["write"],
            opens["people"],
            opens["admin"],
        )

    def report_path(self, release: str, report: str) -> str:
        """Return the address of a report, relative to /releases.

        A browser sends no key for the content of a frame. So where a key is needed, the address
        has a ticket that opens this one report for some minutes. Who asks has shown the key.
        """
        path = f"reports/{report}?{urlencode({'release': release})}"
        if not self._keys_of_level["report"]:
            return path
        until = str(int(time.time()) + TICKET_SECONDS)
        return f"{path}&until={until}&ticket={self._ticket(report, release, until)}"

    def _ticket(self, report: str, release: str, until: str) -> str:
        message = "\n".join((report, release, until)).encode()
        return hmac.new(self._keys_of_level["admin"][0], message, "sha256").hexdigest()

    def _has_ticket(self, scope: Scope) -> bool:
        query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        release, until, ticket = (query.get(name, "") for name in ("release", "until", "ticket"))
        report = scope["path"].rstrip("/").rpartition("/")[2]
        if not (until.isascii() and until.isdigit() and time.time() < int(until[:12])):
            return False
        expected = self._ticket(report, release, until).encode()
        return compare_digest(ticket.encode("utf-8", "replace"), expected)


def without_port(host: bytes) -> bytes:
    """Return the name in a header Host, in small letters.

    >>> without_port(b"LocalHost:8000"), without_port(b"[::1]:8000"), without_port(b"[::1]")
    (b'localhost', b'[::1]', b'[::1]')
    """
    name = host.lower()
    before, _, port = name.rpartition(b":")
    has_port = port.isdigit() and (before[:1] != b"[" or before[-1:] == b"]")
    return before if has_port else name


def _is_of_another_site(headers: dict[bytes, bytes], host: bytes) -> bool:
    """Return whether a browser says that a page of another origin makes the request.

    Programs send neither header.
    """
    if headers.get(b"sec-fetch-site") in (b"cross-site", b"same-site"):
        return True
    origin = headers.get(b"origin")
    return origin is not None and _authority(origin.partition(b"://")[2]) != _authority(host)


def _authority(host: bytes) -> bytes:
    """Return a host with its port, without the port that is meant anyway."""
    return host.lower().removesuffix(b":80").removesuffix(b":443")


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
    path = normalize_path(path)
    below = (level for start, level in BELOW.items() if f"{path}/".startswith(start))
    return LEVELS.get(path) or next(below, "read")


def _key(headers: dict[bytes, bytes]) -> bytes:
    """Return the key of a request; b"" if it is missing."""
    key = headers.get(b"x-api-key")
    if key:
        return key
    authorization = headers.get(b"authorization", b"")
    return authorization[7:] if authorization[:7].lower() == b"bearer " else b""


def _is_one_of(key: bytes, keys: list[bytes]) -> bool:
    """Return whether a key is one of several, in a time that does not depend on the key."""
    return sum(compare_digest(key, other) for other in keys) > 0


def _of_length(length: bytes, path: str, text_users: bool) -> Refusal | None:
    """Return the refusal of a body that is too large by its header Content-Length."""
    batch = text_users and path.rstrip("/").endswith("/batch")
    most, refusal = (MAX_TEXT_BATCH, TOO_LARGE_BATCH) if batch else (MAX_BODY, TOO_LARGE)
    # ten digits are too large for both, and int() takes long for thousands of them
    return refusal if length.isdigit() and (len(length) > 9 or int(length) > most) else None


def _too_many(rate: int, wait: float) -> Refusal:
    detail = f"expected at most {rate} requests a second; try again in {wait:.3f} s"
    return Refusal(429, detail, ((b"retry-after", b"%d" % math.ceil(wait)),))


async def refuse(refusal: Refusal, receive: Receive, send: Send) -> None:
    """Send a refusal.

    Of a body that is too large, up to MAX_DISCARDED bytes are read first, for DISCARD_SECONDS at
    most. If the server closed the connection while the client still sends, the connection would be
    reset, and the client would never see the answer.
    """
    if refusal.status == TOO_LARGE.status:
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
