"""The OpenAPI description of the service as JSON, which names a proxy's prefix."""

from dataclasses import dataclass
from typing import Any, cast

from litestar import Request
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import (
    OpenAPIMediaType,
    OpenAPIType,
    Operation,
    Parameter,
    RequestBody,
    Schema,
)

from api.http.guard import Guard
from api.http.ids import described
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
        for parameter in self.parameters or ():
            if isinstance(parameter, Parameter) and isinstance(parameter.schema, Schema):
                parameter.schema = _sent(parameter.name, parameter.schema)


def _sent(name: str, schema: Schema) -> Schema:
    """Return the schema of a parameter's values without null."""
    if name in ("events", "ids"):
        return EVENTS
    if schema.enum:
        known = [value for value in schema.enum if value is not None]
        return Schema(type=OpenAPIType.STRING, enum=known)
    kinds = [kind for kind in schema.one_of or () if isinstance(kind, Schema)]
    if not kinds:
        return schema
    kept = next(kind for kind in kinds if kind.type is not OpenAPIType.NULL)
    if kept.type is OpenAPIType.INTEGER:
        return Schema(type=kept.type, minimum=0, maximum=schema.maximum)
    return kept


@dataclass
class CallWithEvents(Call):
    """A call that may have a JSON body with events, if it is a POST."""

    def __post_init__(self) -> None:
        """Describe the body of a POST."""
        super().__post_init__()
        if "Post" not in (self.operation_id or ""):  # Litestar puts the method into the id
            return
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


def under_prefix(request: Request[Any, Any, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema with the prefix of the URL, ASGI's root_path, as its server.

    The paths of an OpenAPI schema follow the address of its server, here only "/" or "/music".
    Calls that the settings leave out are not in it.
    """
    guard: Guard = cast(Any, request.app).guard
    schema = described(schema, *request.app.state.service.kinds)
    prefix = request.scope.get("root_path", "").rstrip("/")
    paths = {path: item for path, item in schema["paths"].items() if guard.has_call(path)}
    return schema | {"servers": [{"url": prefix or "/"}], "paths": paths}
