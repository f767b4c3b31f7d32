"""What calls have in common: headers, parameters and error answers in the OpenAPI description."""

from typing import Annotated

from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from litestar.params import QueryParameter

from api.schemas import Problem

# headers of answers that a browser must not keep, pass on, or take for something else
NOT_KEPT = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
UserId = Annotated[str, QueryParameter(description="the user")]


def problem(status: int, description: str, detail: str) -> dict[int, ResponseSpec]:
    """Describe an answer other than 200, with an example."""
    example = Example(value={"status_code": status, "detail": detail})
    return {status: ResponseSpec(Problem, False, description, examples=[example])}


BAD_PARAMETER = problem(
    400,
    "A parameter is missing, is no whole number in plain digits, or is out of range",
    "k: expected a whole number from 1 to 100, found '0'",
)


BAD_BODY = problem(
    400,
    "The body is not what is expected",
    'body: user_ids[1]: Expected `int` >= 0; expected {"user_ids": [47, 16], "k": 100}',
)


TOO_LARGE = problem(413, "The body is too large", "body: expected at most 65536 bytes")
NO_RELEASE = problem(
    503,
    "No release can be served; the detail says why",
    "data/current is missing: run python -m jobs.publish --work data",
)


NOT_STORED = problem(
    503,
    "The journal of events can't be written or read; the detail says why",
    "the journal data/state/events.db can't be written: database or disk is full",
)


UNKNOWN_RELEASE = problem(
    404,
    "There is no such release",
    "release: expected one of ['20240101T000000'], found 'x'",
)


REFUSED_RELEASE = problem(
    409,
    "The release is refused, and the old one is still served; the detail says why",
    "2023-01-01: bytes of recommendations.parquet: expected 812, found 404",
)


# what the guard may answer in place of any call
GUARD_REFUSALS = (
    problem(
        401, "The call needs a key, and no valid one was sent", "expected a valid key in X-API-Key"
    )
    | problem(
        403,
        "The key is for other calls; or no keys are set, and the request is from another machine",
        "the key is valid for other calls, but not for this one",
    )
    | problem(
        429,
        "Too many requests",
        "expected at most 100 requests a second; try again in 0.010 s",
    )
    | TOO_LARGE
)
