"""Tombstones that are kept in Valkey: each process has a copy of them all.

The store (api.events.valkey_store) reads with the lists of an answer whether there are new ones, so
a user who was forgotten through one process is forgotten by the next answer of any other.
"""

from collections.abc import Mapping
from pathlib import Path

from api.events.tombstones import Tombstones
from jobs.contract import journal
from jobs.contract.journal import Tombstone
from jobs.contract.storage import JobError


class SharedTombstones(Tombstones):
    """The tombstones of Valkey; `path` is where those of the embedded store are, if there are any.

    Nothing is written to a file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.problem = "Valkey has not answered yet"

    @property
    def key(self) -> bytes:
        """The key of the hashes of text ids."""
        return self._key

    @key.setter
    def key(self, key: bytes) -> None:
        self._key = key

    def take(self, stored: Mapping[int | bytes, Tombstone]) -> list[int | bytes]:
        """Add tombstones that were read; return the names of users for whom they are new."""
        new = [user for user, found in stored.items() if self._stored.get(user) != found]
        if new:
            self._stored = {**self._stored, **stored}
        return new

    def not_moved(self) -> str | None:
        """Return what to do if the embedded store forgot users of whom Valkey does not know."""
        try:
            before = journal.read_forgotten(self.path)
        except JobError as error:
            return str(error)
        if all(user in self._stored for user in before):
            return None
        return (
            f"{self.path} has users who asked to be forgotten, of whom Valkey does not know: run "
            f"python -m jobs.move_events, or remove the file if it is of no use"
        )
