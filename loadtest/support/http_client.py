"""An HTTP client for the scripts: one connection, answers as JSON."""

import json
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlencode


class HttpClient:
    """A connection to the service that stays open between calls."""

    def __init__(self, port: int) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=30)

    def call(self, method: str, path: str, **parameters: int | str) -> Any:
        """Return the JSON of an answer with status 200. Raises OSError for any other outcome."""
        return self._answer(method, f"{path}?{urlencode(parameters)}")

    def get(self, address: str) -> Any:
        """Return the JSON that a GET of a path with its query is answered with, as `call` does."""
        return self._answer("GET", address)

    def _answer(self, method: str, address: str) -> Any:
        try:
            self._connection.request(method, address)
            answer = self._connection.getresponse()
            text = answer.read()
        except Exception as error:
            raise OSError(f"no answer: {error!r}") from error
        if answer.status != 200:
            raise OSError(f"{address}: {answer.status} {text.decode()}")
        return json.loads(text)
