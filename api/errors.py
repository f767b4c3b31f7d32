"""From exceptions to answers: what was wrong, what was expected, what was found."""

import logging
from typing import Any, cast

from litestar import Request, Response
from litestar.exceptions import ValidationException
from litestar.params import QueryParameter
from litestar.types import ExceptionHandlersMap

from api.answers import Problem
from api.release import ReleaseError
from api.service import UnknownRelease

logger = logging.getLogger("api")
AnyRequest = Request[Any, Any, Any]


def _problem(status: int, detail: str) -> Response[Problem]:
    return Response(Problem(status, detail), status_code=status)


def bad_parameter(request: AnyRequest, error: ValidationException) -> Response[Problem]:
    """400 that names each bad parameter."""
    refused = {problem["key"] for problem in cast(list[dict[str, str]], error.extra or [])}
    details = []
    for name, field in request.route_handler.parsed_fn_signature.parameters.items():
        wanted = field.kwarg_definition
        if isinstance(wanted, QueryParameter):
            alias = wanted.name or name
            missing = alias not in request.query_params and not field.has_default
            if missing or name in refused or alias in refused:
                found = "missing" if missing else f"found {request.query_params.get(alias)!r}"
                details.append(
                    f"{alias}: expected a whole number from {wanted.ge} to {wanted.le}, {found}"
                )
    return _problem(400, "; ".join(details) or error.detail)


def refused_release(request: AnyRequest, error: ReleaseError) -> Response[Problem]:
    """400 for an id that is no release; 409 for a broken one while another is served; else 503."""
    if isinstance(error, UnknownRelease):
        return _problem(400, f"release: {error}")
    return _problem(409 if request.app.state.service.catalog else 503, str(error))


def unexpected(request: AnyRequest, error: Exception) -> Response[Problem]:
    """A fault of ours: the log has it whole, the client only learns that it is one."""
    logger.error("%s %s failed", request.method, request.scope["path"], exc_info=error)
    return _problem(500, "internal error")


HANDLERS: ExceptionHandlersMap = {
    ValidationException: bad_parameter,
    ReleaseError: refused_release,
    500: unexpected,
}
