"""Handlers that do nothing, for the benchmark: their cost is that of the server and the framework.

They take the service's parameters with the service's checks. Each path has a fixed answer, taken
from the service: BENCH_ANSWERS names a JSON file with the texts of the answers by path.
"""

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from litestar import HttpMethod, Litestar, MediaType, post, route
from litestar.params import QueryParameter
from litestar.types import Scope
from msgspec import Struct

MAX_ID = 2**53 - 1
LONGEST = 256  # of a text id


WholeNumber = Annotated[int, QueryParameter(ge=0, le=MAX_ID)]
Text = Annotated[str, QueryParameter(min_length=1, max_length=LONGEST)]
UpToHundred = Annotated[int, QueryParameter(ge=1, le=100)]


class Stored(Struct):
    """The answer to an event, as the service gives it."""

    result: str = "ok"


def read(path: str) -> Callable[..., Any]:
    """Return the decorator of a call that reads; as in the service, it takes GET and POST."""
    methods = [HttpMethod.GET, HttpMethod.POST]
    return route(
        path,
        http_method=methods,
        status_code=200,
        sync_to_thread=False,
        media_type=MediaType.JSON,
    )


def create_app(answers: dict[str, str], text: bool = False) -> Litestar:
    """Return the application; `answers` are the texts of the answers, by path.

    With `text`, ids are text.
    """
    Id: Any = Text if text else WholeNumber
    encoded = {path: text.encode() for path, text in answers.items()}

    @read("/recommendations")
    def recommendations(
        scope: Scope,
        user_id: Id | None = None,
        k: Annotated[int, QueryParameter(ge=1, le=1000)] = 100,
        explain: Annotated[bool, QueryParameter()] = False,
        events: Annotated[list[Id] | None, QueryParameter()] = None,
    ) -> bytes:
        return encoded["/recommendations"]

    @read("/get_online_u2i")
    def get_online_u2i(
        user_id: Id,
        k: UpToHundred = 100,
        n: Annotated[int, QueryParameter(name="N", ge=1, le=100)] = 10,
    ) -> bytes:
        return encoded["/get_online_u2i"]

    @post("/put_user_event", status_code=200, sync_to_thread=False)
    def put_user_event(user_id: Id, item_id: Id) -> Stored:
        return Stored()

    @read("/health/live")
    def live() -> bytes:
        return b"{}"

    handlers = [recommendations, get_online_u2i, put_user_event, live]
    return Litestar(handlers, logging_config=None, on_startup=[without_access_log])


def without_access_log() -> None:
    """Turn the access log off, as the service does."""
    access = logging.getLogger("uvicorn.access")
    access.handlers.clear()
    access.propagate = False


def app() -> Litestar:
    """Return the application that `litestar --app loadtest.support.noop_app:app run` serves."""
    answers = json.loads(Path(os.environ["BENCH_ANSWERS"]).read_text())
    recs = json.loads(answers.get("/recommendations", '{"recs": []}'))["recs"]
    return create_app(answers, text=bool(recs) and isinstance(recs[0], str))
