"""Where events are in Valkey: a request's user is read before the call, and old events are marked.

The calls themselves find the events in memory, as they do with the embedded store, so they are the
same for both. The header `X-Events: stale` marks an answer that was made with the events that this
process saw last, because Valkey did not answer.
"""

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from api.http.ids import parsed
from jobs.contract.journal import Id
from jobs.contract.text_ids import Kinds

if TYPE_CHECKING:  # its client is an optional package
    from api.events.valkey_store import ValkeyStore

STALE_KEY = "stale_events"  # in the state of a request
STALE = (b"x-events", b"stale")
# the last part of the paths of calls that need the events of the user in their query
NEED_EVENTS = frozenset({"recommendations", "get_online_u2i", "get_user_events", "user"})
_PLAIN = re.compile(rb"(?:^|&)user_id=([0-9A-Za-z_.-]{1,256})(?:&|$)")


def user_of(scope: Any, kinds: Kinds) -> Id | None:
    """Return the user whose events a request needs; None if it needs none or names no id."""
    if scope["path"].rstrip("/").rpartition("/")[2] not in NEED_EVENTS:
        return None
    query: bytes = scope["query_string"]
    if query.count(b"user_id") == 1 and b"%" not in query and (plain := _PLAIN.search(query)):
        return parsed(plain[1].decode(), kinds.users)
    pairs = parse_qsl(query.decode(errors="surrogateescape"), keep_blank_values=True)
    values = [text for name, text in pairs if name == "user_id"]
    return parsed(values[-1], kinds.users) if values else None  # the last one counts


async def read_events(
    scope: Any, state: dict[str, Any], store: "ValkeyStore", kinds: Kinds
) -> None:
    """Read the events of a request's user; note in its state if they are those seen last."""
    user = user_of(scope, kinds)
    if user is not None and not await store.read(user):
        store.stale_answers += 1
        state[STALE_KEY] = True


def marking(send: Any, state: dict[str, Any]) -> Any:
    """Return what sends an answer, with a header if it was made with the events seen last."""

    def send_marked(message: Any) -> Any:
        if message["type"] == "http.response.start" and STALE_KEY in state:
            message["headers"] = [*message["headers"], STALE]
        return send(message)

    return send_marked
