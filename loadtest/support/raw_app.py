"""An ASGI application without a framework, for the benchmark: its cost is that of the server alone.

It gives every request the answer of /recommendations in the JSON file that BENCH_ANSWERS names.
"""

import json
import os
from pathlib import Path
from typing import Any

ANSWER = json.loads(Path(os.environ["BENCH_ANSWERS"]).read_text())["/recommendations"].encode()
HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(ANSWER))]


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer a request, or start and stop."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": ANSWER})
