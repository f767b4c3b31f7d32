"""The OpenAPI description of the service, as JSON and as a page, which name a proxy's prefix."""

from typing import Any

from litestar import Request
from litestar.openapi.plugins import JsonRenderPlugin, SwaggerRenderPlugin


class Description(JsonRenderPlugin):
    """The description as JSON."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """Return the description for the address at which it was asked for."""
        return super().render(request, under_prefix(request, openapi_schema))


class DescriptionPage(SwaggerRenderPlugin):
    """The description as a page, from which calls can be sent."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """Return the page for the address at which it was asked for."""
        return super().render(request, under_prefix(request, openapi_schema))


def under_prefix(request: Request[Any, Any, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema with the prefix of the URL, ASGI's root_path, as its server.

    The paths of an OpenAPI schema follow the address of its server, here only "/" or "/music".
    """
    prefix = request.scope.get("root_path", "").rstrip("/")
    return schema | {"servers": [{"url": prefix or "/"}]}
