"""The service without metrics, keys, rates and the release's name: the benchmark's other side.

`litestar --app api.unguarded:app run` serves whoever can reach it.
"""

from typing import Any

from litestar import Litestar

from api.app import create_app
from api.http.asgi import Application


class Bare(Application):
    """Answers each request, and does nothing else for it."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """As Litestar's own."""
        await Litestar.__call__(self, scope, receive, send)


app = create_app(kind=Bare)
