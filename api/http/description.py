"""The OpenAPI description of the service, as JSON and as a page, which name a proxy's prefix."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from litestar import Request
from litestar.openapi.plugins import JsonRenderPlugin, SwaggerRenderPlugin
from litestar.openapi.spec import (
    OpenAPIMediaType,
    OpenAPIType,
    Operation,
    Parameter,
    RequestBody,
    Schema,
)

from api.schemas import MAX_EVENTS
from jobs.contract.names import MAX_ID

TRACK_ID = Schema(type=OpenAPIType.INTEGER, minimum=0, maximum=MAX_ID)
EVENTS = Schema(
    type=OpenAPIType.ARRAY, items=TRACK_ID, max_items=MAX_EVENTS, examples=[[679169, 630670]]
)


@dataclass
class Call(Operation):
    """A call in the description.

    A parameter that may be left out is described by the type of its values: Litestar adds null,
    which nobody can send in a query string.
    """

    def __post_init__(self) -> None:
        """Correct the descriptions of the parameters."""
        for parameter, schema in self._optional():
            kept = next(kind for kind in _kinds(schema) if kind.type is not OpenAPIType.NULL)
            if parameter.name == "events":
                kept = EVENTS
            elif kept.type is OpenAPIType.INTEGER:
                kept = Schema(type=kept.type, minimum=0, maximum=schema.maximum)
            parameter.schema = kept

    def _optional(self) -> Iterator[tuple[Parameter, Schema]]:
        for parameter in self.parameters or ():
            if isinstance(parameter, Parameter):
                schema = parameter.schema
                if isinstance(schema, Schema) and schema.one_of:
                    yield parameter, schema


def _kinds(schema: Schema) -> Iterator[Schema]:
    return (kind for kind in schema.one_of or () if isinstance(kind, Schema))


@dataclass
class CallWithEvents(Call):
    """A call that may have a JSON body with events."""

    def __post_init__(self) -> None:
        """Describe the body."""
        super().__post_init__()
        body = Schema(type=OpenAPIType.OBJECT, properties={"events": EVENTS})
        self.request_body = RequestBody(
            {"application/json": OpenAPIMediaType(schema=body)},
            "events, if they are not in the query string",
            required=False,
        )


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
