"""The ASGI application: checks each request, adds the header X-Release, measures the time."""

from time import perf_counter
from typing import Any

from litestar import Litestar
from litestar.types import Message

from api.http.guard import TOO_LARGE, Guard, Refusal, refuse
from api.http.ids import undecodable
from api.http.shared_events import marking, read_events
from api.http.short_cuts import (
    PRIVATE,
    RECOMMENDER_KEY,
    Headers,
    answer_of,
    send_json,
    store_event,
    what_is_found,
)
from api.http.whole_numbers import refuse_other_spellings
from api.insight import Insight
from api.prometheus import Metrics
from api.schemas import MAX_BODY
from api.service import Service
from api.settings import Settings, SettingsError, usable_settings
from jobs.contract.ids import INTEGER
from jobs.contract.text_ids import Kinds

INTEGERS = Kinds()
RELEASE_HEADER = b"x-release"
BODY_KEY = "body"  # the key of a JSON body of /recommendations


class Application(Litestar):
    """Litestar's application, and what the service does before and after every request.

    This is not done in middleware or hooks, because Litestar's take longer than most answers.

    X-Release names the release that made the answer. A call without an `await` cannot be
    interrupted by a swap, so its release is the one that is served when the answer's head is sent.
    A batch awaits between its lists, so it stores its recommender in the request's state.
    """

    given_settings: Settings | None = None  # if None, the environment is read at the start
    service: Service | None = None  # None until the start; what follows is set then too
    metrics: Metrics
    guard: Guard
    insight: Insight

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer or refuse a request, add X-Release to the answer, and record the time it took."""
        service = self.service
        if scope["type"] != "http" or service is None:
            return await self._start_and_stop(scope, receive, send)
        start = perf_counter()
        state = scope.setdefault("state", {})
        shared = service.shared
        if shared is not None:
            send = marking(send, state)

        # not async: returning the coroutine of `send` itself saves one coroutine for each message
        def send_with_release(message: Message) -> Any:
            if message["type"] == "http.response.start":
                recommender = state.get(RECOMMENDER_KEY) or service.releases.recommender
                if recommender is not None:
                    header = (RELEASE_HEADER, recommender.header)
                    message["headers"] = [*message["headers"], header]
                if message["status"] >= 400:
                    self.metrics.count_error(scope["path"], message["status"])
            return send(message)

        refusal = self.guard.refusal(scope, service.kinds.users != INTEGER)
        if refusal is None and scope["method"] == "POST" and _may_have_events(scope):
            state[BODY_KEY] = body = await _body(receive)
            refusal = TOO_LARGE if len(body) > MAX_BODY else None
        if refusal is None:
            if shared is not None:
                await read_events(scope, state, shared, service.kinds)
            await self.answer(scope, receive, send_with_release, service)
        else:
            await refuse(refusal, receive, send_with_release)
        self.metrics.record_answer(scope["path"], perf_counter() - start)
        return None

    async def answer(self, scope: Any, receive: Any, send: Any, service: Service) -> None:
        """Answer a request that is let through: by a short cut, or as Litestar does."""
        headers: Headers = ()
        answer = answer_of(scope, service) or await store_event(scope, service)
        if answer is None and service.kinds != INTEGERS:
            answer = _refusal_of_bytes(scope["query_string"])
        if answer is None:
            headers = PRIVATE
            answer = await what_is_found(scope, service, self.insight, self.guard)
        if answer is None:
            refuse_other_spellings(scope, scope.setdefault("state", {}))
            await super().__call__(scope, receive, send)
        elif isinstance(answer, Refusal):
            await refuse(answer, receive, send)
        else:
            await send_json(answer, send, headers)

    async def _start_and_stop(self, scope: Any, receive: Any, send: Any) -> None:
        """Start and stop as Litestar does, but refuse unusable settings with a message of one line.

        Litestar would send a traceback, which the server writes into its log.
        """
        if scope["type"] == "lifespan":
            try:
                settings = usable_settings(self.given_settings)
                if settings.events:
                    await check_server(settings)
            except SettingsError as error:
                await receive()
                await send({"type": "lifespan.startup.failed", "message": str(error)})
                raise
        await super().__call__(scope, receive, send)


async def check_server(settings: Settings) -> None:
    """Raise SettingsError if the Valkey of the settings can't keep what is promised of events."""
    from api.events import valkey_session  # its client is an optional package

    await valkey_session.check_server(settings)


def _refusal_of_bytes(query: bytes) -> Refusal | None:
    """Return the refusal of a query that has no UTF-8; None if it has."""
    wrong = undecodable(query)
    if wrong is None:
        return None
    return Refusal(400, f"{wrong}: expected UTF-8 in percent-encoding")


def _may_have_events(scope: Any) -> bool:
    """Return whether a POST is one of /recommendations with a JSON body.

    This is found out here, since Litestar's ways to a body take longer than most answers, and most
    of these calls have none.
    """
    if not scope["path"].endswith(("/recommendations", "/recommendations/")):
        return False
    return any(
        name == b"content-type" and value[:16].lower() == b"application/json"
        for name, value in scope["headers"]
    )


async def _body(receive: Any) -> bytes:
    """Return a request's body, or a longer part of it than MAX_BODY bytes."""
    body = b""
    while len(body) <= MAX_BODY:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body", False):
            break
    return body
