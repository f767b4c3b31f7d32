"""The plainest requests, answered without Litestar's router.

To find a handler, read its parameters and build a response takes Litestar longer than most answers
take. Nearly all requests of a busy service are written in one of these ways, in this order:

    GET /recommendations?user_id=47&k=10          without k too
    GET /get_online_u2i?user_id=47&k=10&N=5       without k or N too
    POST /put_user_event?user_id=47&item_id=100
    GET /search?q=thunder&limit=10                without limit too

They are answered here, by the same functions as in api.http.routes and api.http.console, and with
the same bytes. What is written in any other way goes through Litestar, which checks and describes
all calls. So does a reading call that fails, to get its error answer there. The tests compare both
ways.
"""

import logging
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote_plus

import msgspec

from api.events.journal import JournalError
from api.http.described import NOT_KEPT
from api.http.guard import Guard, Refusal
from api.http.ids import parsed
from api.insight import Insight
from api.release.search_index import SearchError
from api.schemas import MAX_FOUND, MAX_K, MAX_NEAR, Stored
from api.service import Service
from jobs.contract.ids import INTEGER
from jobs.contract.journal import Id
from jobs.contract.search import MAX_QUERY

logger = logging.getLogger("api")

Headers = Sequence[tuple[bytes, bytes]]
# the key, in a request's state, of the recommender that made its answer
RECOMMENDER_KEY = "recommender"
ID, NUMBER = rb"([0-9A-Za-z._~-]{1,256})", rb"([1-9][0-9]{0,3})"
LIST = re.compile(rb"user_id=%b(?:&k=%b)?" % (ID, NUMBER))
ONLINE = re.compile(rb"user_id=%b(?:&k=%b)?(?:&N=%b)?" % (ID, NUMBER, NUMBER))
# q without a blank or a sign that is not ASCII: these are sent as "+" or "%20", and "%D1%91"
SEARCH = re.compile(rb"q=([!-%%'-~]{1,%d})(?:&limit=([1-9][0-9]?))?" % (9 * MAX_QUERY))
EVENT = re.compile(rb"user_id=%b&item_id=%b" % (ID, ID))
# further headers of what is found
PRIVATE: Headers = [(name.lower().encode(), value.encode()) for name, value in NOT_KEPT.items()]
STORED = msgspec.json.encode(Stored())


def answer_of(scope: Any, service: Service) -> bytes | None:
    """Return the answer to a plain reading call; None if it must go through Litestar."""
    if scope["method"] != "GET":
        return None
    path, query = _path(scope), scope["query_string"]
    try:
        if path == "/recommendations" and (found := LIST.fullmatch(query)):
            user, k = _id(found[1], service.kinds.users), int(found[2] or 100)
            if user is not None and k <= MAX_K:
                return b'{"recs":%b}' % service.recommend(user, k)
        elif path == "/get_online_u2i" and (found := ONLINE.fullmatch(query)):
            user = _id(found[1], service.kinds.users)
            k, n = int(found[2] or 100), int(found[3] or 10)
            if user is not None and max(k, n) <= MAX_NEAR:
                return b'{"recs":%b}' % service.online(user, k, n)
    except Exception:
        return None  # Litestar meets the same error, and answers it
    return None


async def store_event(scope: Any, service: Service) -> bytes | Refusal | None:
    """Store the event of a plain call; return the answer, or None if it must go through Litestar.

    Unlike a reading call, one that fails is refused here: it must not be tried twice.
    """
    if scope["method"] != "POST" or _path(scope) != "/put_user_event":
        return None
    if not (found := EVENT.fullmatch(scope["query_string"])):
        return None
    user = _id(found[1], service.kinds.users)
    track = _id(found[2], service.kinds.tracks)
    if user is None or track is None:
        return None
    try:
        await service.put(user, track)
    except JournalError as error:
        return Refusal(503, str(error))
    except Exception as error:
        logger.error("%s %s failed", scope["method"], scope["path"], exc_info=error)
        return Refusal(500, "internal error")
    return STORED


async def what_is_found(
    scope: Any, service: Service, insight: Insight, guard: Guard
) -> bytes | Refusal | None:
    """Return what a plain search finds, or None if it must go through Litestar.

    Answers do not wait for the search itself, which runs in a thread, but they wait while Litestar
    handles a call, and browsers search at each letter that is typed.
    """
    if scope["method"] != "GET" or _path(scope) != "/search":
        return None
    if not (found := SEARCH.fullmatch(scope["query_string"])):
        return None
    recommender = service.releases.recommender
    try:
        text, limit = unquote_plus(found[1].decode(), errors="strict"), int(found[2] or 10)
    except UnicodeDecodeError:
        return None
    if not text.strip() or len(text) > MAX_QUERY or limit > MAX_FOUND or recommender is None:
        return None
    scope["state"][RECOMMENDER_KEY] = recommender  # for the header X-Release
    people = guard.refusal_of_people(scope) is None
    try:
        return await insight.search_json(recommender.catalog, text, limit, people)
    except (SearchError, JournalError) as error:
        return Refusal(503, str(error))  # not tried twice: it may have taken a second
    except Exception:
        return None  # Litestar meets the same error, and answers it


def _id(value: bytes, kind: str) -> Id | None:
    """Return the id that a value has which fits ID; None if it is no id of this kind.

    Each of them is a text id, since the pattern lets neither long nor odd ones through.
    """
    text = value.decode()
    return parsed(text, kind) if kind == INTEGER else text


def _path(scope: Any) -> str:
    """Return the path below the URL prefix that the server was started with."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


async def send_json(body: bytes, send: Any, more: Headers = ()) -> None:
    """Send an answer, with further headers, as Litestar would."""
    length = b"%d" % len(body)
    headers = [(b"content-type", b"application/json"), (b"content-length", length), *more]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
