"""The application around Litestar's: each answer says which release it is from, and is timed."""

from time import perf_counter
from typing import Any

from litestar import Litestar
from litestar.types import Message

from api.http.guard import Guard, refuse
from api.service import Service

NAME = b"x-release"


RECOMMENDER_KEY = "recommender"  # in a request's state: the one that its answer is from


class Application(Litestar):
    """Litestar's, and what is done for every request; middleware and hooks would take longer.

    A call that doesn't wait ends with the release it began with, which is that of the service when
    the answer's head is sent; one that waits for others leaves its own in the request's state.
    """

    service: Service | None = None  # from the start on, and the guard
    guard: Guard

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer or refuse a request; add the release to the head, and note how long it took."""
        service = self.service
        if scope["type"] != "http" or service is None:
            return await super().__call__(scope, receive, send)
        start = perf_counter()
        state = scope.setdefault("state", {})

        def answer(message: Message) -> Any:
            """No coroutine of its own: the one that sends is handed on."""
            if message["type"] == "http.response.start":
                served = state.get(RECOMMENDER_KEY) or service.recommender
                if served is not None:
                    message["headers"] = [*message["headers"], (NAME, served.header)]
                if message["status"] >= 400:
                    service.metrics.failed(scope["path"], message["status"])
            return send(message)

        refusal = self.guard.refusal(scope)
        if refusal is None:
            await super().__call__(scope, receive, answer)
        else:
            await refuse(refusal, answer)
        service.metrics.answered(scope["path"], perf_counter() - start)
        return None
