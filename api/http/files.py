"""Files that are sent as they are, with the headers that a browser should obey."""

from collections.abc import Mapping
from pathlib import Path

from litestar import Response
from litestar.exceptions import NotFoundException

KINDS = {
    ".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml",
    ".png": "image/png", ".json": "application/json", ".txt": "text/plain",
}  # fmt: skip


def answer_file(path: Path, headers: Mapping[str, str]) -> Response[bytes]:
    """Return a file as an answer; NotFoundException if it is not there or of another kind."""
    kind = KINDS.get(path.suffix)
    if kind is None or not path.is_file():
        raise NotFoundException
    return Response(path.read_bytes(), media_type=kind, headers=dict(headers))
