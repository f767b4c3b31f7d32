"""The numbers that stand for tracks in Valkey where ids are text: each text is there once only."""

import sys
from collections.abc import Iterable

from api.events.valkey_client import Command, Connection, checked
from jobs.contract import valkey

KEPT = 2_000_000  # numbers in memory; then it begins anew
NUMBER = valkey.sha_of(valkey.NUMBER)


class TrackNumbers:
    """The numbers that this process knows. A number always stands for the same text."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._texts: dict[int, str] = {}

    def number(self, text: str) -> int | None:
        """Return the number of a text; None if it is not known here."""
        return self._numbers.get(text)

    async def make_number(self, connection: Connection, text: str) -> int:
        """Return the number of a text, a new one if it has none. Lost or Refused if that fails."""
        (number,) = checked(await connection.ask([("EVALSHA", NUMBER, 1, valkey.TRACKS, text)]))
        self._learn(int(number), text)
        return int(number)

    def texts(self, numbers: Iterable[bytes]) -> list[str]:
        """Return the texts of numbers; KeyError if one is not known here."""
        return [self._texts[int(number)] for number in numbers]

    async def read(self, connection: Connection, numbers: set[int]) -> None:
        """Learn the texts of numbers. Lost or Refused if that fails."""
        wanted = sorted(numbers - self._texts.keys())
        if not wanted:
            return
        # a number is one more than the place of its text in the sorted set
        commands: list[Command] = [("ZRANGE", valkey.TRACKS, n - 1, n - 1) for n in wanted]
        found = checked(await connection.ask(commands))
        for number, (text,) in zip(wanted, found, strict=True):
            self._learn(number, text.decode())

    def _learn(self, number: int, text: str) -> None:
        if len(self._texts) >= KEPT:
            self._texts.clear()
            self._numbers.clear()
        text = sys.intern(text)
        self._texts[number], self._numbers[text] = text, number
