"""The ASGI application: guards each request, names the release in the answer, takes its time."""

from time import perf_counter
from typing import Any

from litestar import Litestar
from litestar.types import Message

from api.http.guard import Guard, refuse
from api.http.whole_numbers import refuse_other_spellings
from api.prometheus import Metrics
from api.service import Service
from api.settings import Settings, SettingsError, usable_settings

RELEASE_HEADER = b"x-release"
RECOMMENDER_KEY = "recommender"  # in a request's state: the one that made its answer


class Application(Litestar):
    """Litestar's application, and what is done around it for every request.

    It is done here since middleware and hooks of Litestar would take longer than most answers.

    X-Release names the release that made the answer. A call that does not wait in between is
    answered by one release, the one that is served when the answer's head is sent. A call that
    waits for others leaves its recommender in the request's state.
    """

    given_settings: Settings | None = None  # else the environment's are read at the start
    service: Service | None = None  # until the start there is none, and neither of these two
    metrics: Metrics
    guard: Guard

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer or refuse a request; add the release to its head, and record how long it took."""
        service = self.service
        if scope["type"] != "http" or service is None:
            return await self._start_and_stop(scope, receive, send)
        start = perf_counter()
        state = scope.setdefault("state", {})

        # not async: it returns the coroutine of `send` itself, one coroutine less a message
        def send_with_release(message: Message) -> Any:
            if message["type"] == "http.response.start":
                recommender = state.get(RECOMMENDER_KEY) or service.releases.recommender
                if recommender is not None:
                    header = (RELEASE_HEADER, recommender.header)
                    message["headers"] = [*message["headers"], header]
                if message["status"] >= 400:
                    self.metrics.count_error(scope["path"], message["status"])
            return send(message)

        refusal = self.guard.refusal(scope)
        if refusal is None:
            refuse_other_spellings(scope, state)
            await super().__call__(scope, receive, send_with_release)
        else:
            await refuse(refusal, receive, send_with_release)
        self.metrics.record_answer(scope["path"], perf_counter() - start)
        return None

    async def _start_and_stop(self, scope: Any, receive: Any, send: Any) -> None:
        """Start and stop as Litestar does, but refuse settings that cannot be used.

        Litestar would send a traceback to the server, which writes what it gets into its log.
        """
        if scope["type"] == "lifespan":
            try:
                usable_settings(self.given_settings)
            except SettingsError as error:
                await receive()
                await send({"type": "lifespan.startup.failed", "message": str(error)})
                raise
        await super().__call__(scope, receive, send)
