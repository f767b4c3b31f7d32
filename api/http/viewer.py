"""The page that shows the OpenAPI description, by Swagger UI from a package: without a network."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
from litestar import Controller, MediaType, Response, get
from litestar.exceptions import NotFoundException
from litestar.params import FromPath

from api.http.description import under_prefix
from api.http.files import answer_file
from api.http.problems import AnyRequest

PACKAGE = "flask_swagger_ui"  # only its files are used, none of its code
OWN = Path(__file__).with_name("viewer.js")
FILES = ("swagger-ui-bundle.js", "swagger-ui.css")
# Swagger UI sets styles of elements
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Music recommendations: the calls</title>
<link rel="stylesheet" href="%(files)s/swagger-ui.css">
<script type="application/json" id="description">%(description)s</script>
<script src="%(files)s/swagger-ui-bundle.js" defer></script>
<script src="%(files)s/viewer.js" defer></script>
</head>
<body><main id="viewer"></main></body>
</html>
"""


def folder() -> Path | None:
    """Return the folder with the files of Swagger UI; None if the package is not installed."""
    spec = find_spec(PACKAGE)
    return Path(spec.origin).with_name("dist") if spec and spec.origin else None


class Viewer(Controller):
    """The page, and the files that it needs."""

    @get("/schema/swagger", include_in_schema=False, sync_to_thread=True)
    def page(self, request: AnyRequest) -> Response[str]:
        """Return the page, with the description inside."""
        schema: dict[str, Any] = request.app.openapi_schema.to_schema()
        description = msgspec.json.encode(under_prefix(request, schema)).decode()
        description = description.replace("<", "\\u003c")  # nothing in it ends the element
        prefix = request.scope.get("root_path", "").rstrip("/")
        html = PAGE % {"files": f"{prefix}/schema/files", "description": description}
        return Response(html, media_type=MediaType.HTML, headers=HEADERS)

    @get("/schema/files/{name:str}", include_in_schema=False, sync_to_thread=True)
    def file(self, name: FromPath[str]) -> Response[bytes]:
        """Return a file of the viewer."""
        files = folder()
        if name == OWN.name:
            return answer_file(OWN, HEADERS)
        if files is None or name not in FILES:
            raise NotFoundException
        return answer_file(files / name, HEADERS)
