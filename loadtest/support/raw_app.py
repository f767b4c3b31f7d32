"""An ASGI application without a framework, for the benchmark: its cost is that of the server alone.

It gives every request the answer of /recommendations in the JSON file that BENCH_ANSWERS names.
"""

import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any


def app() -> Callable[[Any, Any, Any], Awaitable[None]]:
    """Return the application."""
    answers = json.loads(Path(os.environ["BENCH_ANSWERS"]).read_text())
    body = answers["/recommendations"].encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return answer
