"""Turns exceptions into error answers, which say what was expected and what was found."""

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
from api.http.whole_numbers import AS_SENT
from api.insight import NotFound
from api.release.loader import ReleaseError
from api.release.manager import UnknownRelease
from api.release.search_index import SearchError
from api.schemas import MAX_BODY, MAX_EVENTS, MAX_K, MAX_LISTS, EventsGiven, Problem
from jobs.contract.names import MAX_ID

logger = logging.getLogger("api")


LISTED = ("events", "ids")  # parameters that may be repeated and are lists of track ids


AnyRequest = Request[Any, Any, Any]


class BadParameter(Exception):
    """A parameter that can't be used; the text says which, what was expected, what was found."""


def check_ids(name: str, ids: list[int], most: int) -> None:
    """Raise BadParameter if a list of ids is too long, or an id is out of range."""
    if len(ids) > most:
        raise BadParameter(f"{name}: expected at most {most}, found {len(ids)}")
    for found in ids:
        if not 0 <= found <= MAX_ID:
            expected = f"track ids, whole numbers from 0 to {MAX_ID}"
            raise BadParameter(f"{name}: expected {expected}, found '{str(found)[:40]}'")


def events_of_body(body: bytes) -> list[int] | None:
    """Return the events in a JSON body; None if it does not name any.

    Such a body is ignored, whatever it is, as it always was. Raises BadParameter if the events are
    not what is expected.
    """
    if b'"events"' not in body:
        return None
    try:
        given = msgspec.json.decode(body, type=EventsGiven)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        expected = (
            f'{{"events": [5, 7]}} with at most {MAX_EVENTS} whole numbers from 0 to {MAX_ID}'
        )
        raise BadParameter(f"body: {error}; expected {expected}") from None
    return None if given.events is UNSET else given.events


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
        # of a repeated parameter the last value counts
        value = (request.query_params.getall(alias, None) or [None])[-1]
        value = as_sent.get(alias, value) if name in refused else value
        if name in refused or (value is None and not field.has_default):
            found = "missing" if value is None else f"found {value[:40]!r}"
            expected = f"a whole number from {parameter.ge} to {parameter.le}"
            if field.annotation is bool:
                expected = "true or false"
            elif alias in LISTED:
                expected = f"track ids, whole numbers from 0 to {MAX_ID}"
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
    expected = (
        f'{{"user_ids": [47, 16], "k": 100}} with 1 to {MAX_LISTS} whole numbers '
        f"from 0 to {MAX_ID} in user_ids, and k from 1 to {MAX_K} or left out"
    )
    return _problem(400, f"body: {reason.removeprefix('data: ')}; expected {expected}")


def too_large(request: AnyRequest, error: RequestEntityTooLarge) -> Response[Problem]:
    """Return a 413 that says how many bytes a body may have."""
    return _problem(413, f"body: expected at most {MAX_BODY} bytes")


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
