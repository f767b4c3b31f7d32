"""Empty handlers: what the server and the framework alone cost, for the benchmark to compare with.

The calls take the service's parameters with the service's checks and return an answer of the same
type and size, which is fixed: the first of the service's own, from the file BENCH_ANSWERS.
"""

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from litestar import HttpMethod, Litestar, MediaType, post, route
from litestar.params import QueryParameter
from msgspec import Struct

MAX_ID = 2**53 - 1


Id = Annotated[int, QueryParameter(ge=0, le=MAX_ID)]


UpToHundred = Annotated[int, QueryParameter(ge=1, le=100)]


class Stored(Struct):
    """As the service's."""

    result: str = "ok"


def read(path: str) -> Callable[..., Any]:
    """Declare a reading call as the service does."""
    methods = [HttpMethod.GET, HttpMethod.POST]
    return route(
        path,
        http_method=methods,
        status_code=200,
        sync_to_thread=False,
        media_type=MediaType.JSON,
    )


def create_app(answers: dict[str, str]) -> Litestar:
    """The application; answers are texts by path."""
    fixed = {path: text.encode() for path, text in answers.items()}

    @read("/recommendations")
    def recommendations(
        user_id: Id,
        k: Annotated[int, QueryParameter(ge=1, le=1000)] = 100,
        explain: Annotated[bool, QueryParameter()] = False,
    ) -> bytes:
        return fixed["/recommendations"]

    @read("/get_online_u2i")
    def get_online_u2i(
        user_id: Id,
        k: UpToHundred = 100,
        n: Annotated[int, QueryParameter(name="N", ge=1, le=100)] = 10,
    ) -> bytes:
        return fixed["/get_online_u2i"]

    @post("/put_user_event", status_code=200, sync_to_thread=False)
    def put_user_event(user_id: Id, item_id: Id) -> Stored:
        return Stored()

    @read("/health/ready")
    def ready() -> bytes:
        return b"{}"

    handlers = [recommendations, get_online_u2i, put_user_event, ready]
    return Litestar(handlers, logging_config=None, on_startup=[without_access_log])


def without_access_log() -> None:
    """The service writes none either."""
    access = logging.getLogger("uvicorn.access")
    access.handlers.clear()
    access.propagate = False


def app() -> Litestar:
    """What `litestar --app loadtest.support.noop_app:app run` serves."""
    return create_app(json.loads(Path(os.environ["BENCH_ANSWERS"]).read_text()))
