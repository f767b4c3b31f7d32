"""Whole numbers in the query string: only plain decimal digits are accepted.

Litestar would also convert "1e3" and "5.0" to whole numbers. Such a value is replaced by one that
Litestar refuses. The answer is then the usual 400, which shows the value that the client sent.

For example, user_id=7&k=1e3 becomes user_id=7&k=x, and the 400 says "found '1e3'". For a request
with plain digits, as nearly all are, this takes one search by a regular expression.
"""

import re
from typing import Any
from urllib.parse import parse_qsl, urlencode

# the parameters that are whole numbers; for ids see api.http.ids
NAMES = ("k", "N", "limit", "offset", "near")
# the key, in a request's state, of the replaced values by parameter, as the client sent them
AS_SENT = "whole_numbers_as_sent"
_UNUSUAL = re.compile(rb"(?:^|&)(?:%b)=(?!-?[0-9]+(?:&|$))" % "|".join(NAMES).encode())
_PLAIN = re.compile(r"-?[0-9]+", re.ASCII)


def refuse_other_spellings(scope: Any, state: dict[str, Any]) -> None:
    """Make Litestar refuse each whole number of a request that is not written in plain digits."""
    if _UNUSUAL.search(scope["query_string"]) is None:
        return
    pairs = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    wrong = [
        (name, value) for name, value in pairs if name in NAMES and not _PLAIN.fullmatch(value)
    ]
    kept = [(name, "x" if (name, value) in wrong else value) for name, value in pairs]
    state[AS_SENT] = dict(wrong)
    scope["query_string"] = urlencode(kept).encode()
