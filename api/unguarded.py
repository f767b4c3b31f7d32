"""The service without metrics, keys, rate limits and X-Release, to measure what these cost.

`litestar --app api.unguarded:app run` answers everyone who can reach it: for benchmarks only.
"""

from typing import Any

from litestar import Litestar

from api.app import create_app
from api.http.asgi import Application


class Unguarded(Application):
    """Answers each request without any check or metric."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer without what `Application` does before and after."""
        if scope["type"] == "http" and self.service is not None:
            await self.answer(scope, receive, send, self.service)
        else:
            await Litestar.__call__(self, scope, receive, send)


app = create_app(kind=Unguarded)
