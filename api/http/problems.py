"""Turns exceptions into error answers, which say what was expected and what was found."""

import json
import logging
from typing import Any, cast

import msgspec
from litestar import Request, Response
from litestar.exceptions import ClientException, ValidationException
from litestar.exceptions.http_exceptions import RequestEntityTooLarge
from litestar.params import QueryParameter
from litestar.types import ExceptionHandlersMap
from msgspec import UNSET

from api.events.journal import JournalError
from api.http.ids import (
    EXPECTED,
    EXPECTED_LIST,
    ID_PARAMETERS,
    LIST_PARAMETERS,
    MANY,
    TYPES,
    BadBody,
    BadParameter,
    ids_of_body,
    parsed,
)
from api.http.whole_numbers import AS_SENT
from api.insight import NotFound
from api.release.loader import ReleaseError
from api.release.manager import UnknownRelease
from api.release.search_index import SearchError
from api.schemas import (
    MAX_BODY,
    MAX_EVENTS,
    MAX_K,
    MAX_LISTS,
    MAX_TEXT_BATCH,
    EventsGiven,
    IntegerId,
    Problem,
)
from jobs.contract.ids import INTEGER, TEXT
from jobs.contract.journal import Id

logger = logging.getLogger("api")


EITHER = "`int | str`"  # how msgspec names ids of either kind
GIVEN: dict[str, Any] = {INTEGER: EventsGiven[IntegerId], TEXT: EventsGiven[str]}


AnyRequest = Request[Any, Any, Any]


def events_of_body(body: bytes, kind: str) -> list[Id] | None:
    """Return the events in a JSON body, of tracks with ids of a kind; None if it names none.

    Such a body is ignored, whatever it is, as it always was. Raises BadParameter if the events are
    not what is expected.
    """
    if b'"events"' not in body:
        return None
    example = json.dumps({"events": [5, 7] if kind == INTEGER else ["5", "7"]})
    expected = f"{example} with at most {MAX_EVENTS} {MANY[kind]}"
    try:
        given = msgspec.json.decode(body, type=GIVEN[kind])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadParameter(f"body: {error}; expected {expected}") from None
    if given.events is UNSET:
        return None
    try:
        return ids_of_body("events", given.events, kind)
    except BadBody as error:
        place, _, reason = str(error).partition(": ")
        raise BadParameter(f"body: {reason} - at `$.{place}`; expected {expected}") from None


def unusable_parameter(request: AnyRequest, error: BadParameter) -> Response[Problem]:
    """Return a 400 that says what is wrong with a parameter."""
    return _problem(400, str(error))


def _problem(status: int, detail: str) -> Response[Problem]:
    return Response(Problem(status, detail), status_code=status)


def bad_parameter(request: AnyRequest, error: ValidationException) -> Response[Problem]:
    """Return a 400 that says for each bad parameter what was expected and what was found."""
    refused = {problem["key"] for problem in cast(list[dict[str, str]], error.extra or [])}
    as_sent = request.scope["state"].get(AS_SENT, {})
    details = []
    for name, field in request.route_handler.parsed_fn_signature.parameters.items():
        parameter = field.kwarg_definition
        if not isinstance(parameter, QueryParameter):
            continue
        alias = parameter.name or name
        kinds = request.app.state.service.kinds
        kind = kinds.users if alias == "user_id" else kinds.tracks
        # of a repeated parameter the last value counts
        value = (request.query_params.getall(alias, None) or [None])[-1]
        value = as_sent.get(alias, value) if name in refused else value
        if alias in ID_PARAMETERS and value is not None and parsed(value, kind) is None:
            refused.add(name)
        if name in refused or (value is None and not field.has_default):
            found = "missing" if value is None else f"found {value[:40]!r}"
            expected = f"a whole number from {parameter.ge} to {parameter.le}"
            if field.annotation is bool:
                expected = "true or false"
            elif alias in ID_PARAMETERS:
                expected = EXPECTED[kind]
            elif alias in LIST_PARAMETERS:
                expected = EXPECTED_LIST[kind]
            elif alias == "kind":
                expected = "any, track, artist or user"
            elif alias == "q":
                expected = f"at most {parameter.max_length} characters"
            details.append(f"{alias}: expected {expected}, {found}")
    return _problem(400, "; ".join(details) or error.detail)


def bad_body(request: AnyRequest, error: Exception) -> Response[Problem]:
    """Return a 400 that says what is wrong with the body of a batch, and what was expected."""
    reason = "found no JSON"
    if isinstance(error, ValidationException):
        problem = cast(list[dict[str, str]], error.extra)[0]
        empty = problem["message"] == "'data'"  # Litestar's message for an empty body
        reason = "found nothing" if empty else f"{problem['key']}: {problem['message']}"
    elif isinstance(error, BadBody):
        reason = str(error)
    kinds = request.app.state.service.kinds
    kind = kinds.tracks if reason.startswith("events") else kinds.users
    reason = reason.removeprefix("data: ").replace(EITHER, f"`{TYPES[kind]}`")
    users = [47, 16] if kinds.users == INTEGER else ["47", "16"]
    expected = (
        f"{json.dumps({'user_ids': users, 'k': 100})} with 1 to {MAX_LISTS} {MANY[kinds.users]} "
        f"in user_ids, and k from 1 to {MAX_K} or left out"
    )
    return _problem(400, f"body: {reason}; expected {expected}")


def too_large(request: AnyRequest, error: RequestEntityTooLarge) -> Response[Problem]:
    """Return a 413 that says how many bytes a body may have."""
    users = request.app.state.service.kinds.users
    most = MAX_BODY if users == INTEGER else MAX_TEXT_BATCH
    return _problem(413, f"body: expected at most {most} bytes")


def refused_release(request: AnyRequest, error: ReleaseError) -> Response[Problem]:
    """Return a 409 if another release is still served, a 503 if none is."""
    return _problem(409 if request.app.state.service.releases.recommender else 503, str(error))


def no_journal(request: AnyRequest, error: JournalError) -> Response[Problem]:
    """Return a 503 that says why the journal cannot be written or read."""
    return _problem(503, str(error))


def unknown_release(request: AnyRequest, error: UnknownRelease) -> Response[Problem]:
    """Return a 404 that lists the existing releases."""
    return _problem(404, f"release: {error}")


def not_found(request: AnyRequest, error: NotFound) -> Response[Problem]:
    """Return a 404 that lists what there is."""
    return _problem(404, str(error))


def no_search(request: AnyRequest, error: SearchError) -> Response[Problem]:
    """Return a 503 that says why a search was stopped or is not possible."""
    return _problem(503, str(error))


def unexpected(request: AnyRequest, error: Exception) -> Response[Problem]:
    """Return a 500 without details, for a fault of the service; the traceback goes into the log."""
    logger.error("%s %s failed", request.method, request.scope["path"], exc_info=error)
    return _problem(500, "internal error")


BODY_ERROR_HANDLERS: ExceptionHandlersMap = {
    ValidationException: bad_body,
    ClientException: bad_body,
    UnicodeDecodeError: bad_body,
    RecursionError: bad_body,
    BadBody: bad_body,
    RequestEntityTooLarge: too_large,
}


HANDLERS: ExceptionHandlersMap = {
    ValidationException: bad_parameter,
    BadParameter: unusable_parameter,
    JournalError: no_journal,
    ReleaseError: refused_release,
    UnknownRelease: unknown_release,
    NotFound: not_found,
    SearchError: no_search,
    500: unexpected,
}
