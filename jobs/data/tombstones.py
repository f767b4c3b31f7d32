"""Leave out what users did before they asked the service to forget them.

A listen that comes from the service's journal has a place in its sequence, and that decides. Others
have only a time, which is compared with the time of the request:

    the clock says   what happens              journal, or tombstone        is left out
    2026, 10:00      user 7 plays 10           (seq 1, 10:00)               yes
    2150             user 7 asks               (seq 2, asked at 2150)
    2026, 11:00      user 7 plays 20           (seq 3, 11:00)               no: 3 > 2
    2026, 11:00      a listen of the files     (no seq, 11:00)              yes: 11:00 <= 2150
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from jobs.contract import journal, storage
from jobs.contract.ids import INTEGER, MISSING, TEXT, find
from jobs.contract.names import FORGOTTEN_UNTIL
from jobs.contract.results import ForgottenUntil

NOT_OF_JOURNAL = -1  # of a listen that does not come from the journal


class Tombstones(NamedTuple):
    """Which users asked to be forgotten, by user_id, and up to where.

    Of text ids there are only hashes: `of_texts` finds out which ones they are.
    """

    user: np.ndarray  # (m,) int64, ascending; where ids are text: places in `hashes`
    seq: np.ndarray  # (m,) int64, a place in the journal's sequence
    asked_at: np.ndarray  # (m,) int64, microseconds since 1970
    hashes: list[bytes] | None = None  # (m,) of text ids
    key: bytes = b""  # with which they are made

    def covers(self, user: np.ndarray, time: np.ndarray, seq: np.ndarray) -> np.ndarray:
        """Return whether each listen (n,) of a user is to be left out.

        Its place in the journal's sequence decides, or its time where that is NOT_OF_JOURNAL.
        """
        if len(self.user) == 0:
            return np.zeros(len(user), bool)
        place = find(self.user, user)
        timed = seq == NOT_OF_JOURNAL
        before = np.where(timed, time <= self.asked_at[place], seq <= self.seq[place])
        covered: np.ndarray = (place != MISSING) & before
        return covered

    def of_texts(self, texts: pa.Array) -> "Tombstones":
        """Return those of the users in texts (n,); `user` has their places there."""
        if not self.hashes:
            return self
        place_of = {found: place for place, found in enumerate(self.hashes)}
        found = [
            place_of.get(journal.hashed(self.key, text), MISSING)
            for text in texts.cast(pa.large_binary()).to_pylist()
        ]
        mine = np.array(found, np.int64)
        user = np.flatnonzero(mine != MISSING)
        return Tombstones(user, self.seq[mine[user]], self.asked_at[mine[user]])

    @property
    def kind(self) -> str | None:
        """Return of which kind the users' ids are; None without any tombstone."""
        if not len(self.user):
            return None
        return INTEGER if self.hashes is None else TEXT

    @property
    def last(self) -> int:
        """Return the seq of the newest tombstone; 0 without any."""
        return int(self.seq.max(initial=0))


def read(path: Path) -> Tombstones:
    """Read the tombstones that the service keeps in a file; none where there is no file."""
    stored = journal.read_forgotten(path)
    hashes = sorted(user for user in stored if isinstance(user, bytes))
    if not hashes:
        rows = sorted((user, *found) for user, found in stored.items() if isinstance(user, int))
        return Tombstones(*np.array(rows, np.int64).reshape(-1, 3).T)
    until = np.array([stored[found] for found in hashes], np.int64)
    seq, asked_at = until.T
    return Tombstones(np.arange(len(hashes)), seq, asked_at, hashes, journal.read_key(path))


def note(work: Path, forgotten: Tombstones) -> None:
    """Write into WORK the seq of the newest tombstone that its listens obey."""
    path = work / FORGOTTEN_UNTIL
    if forgotten.last:
        storage.write_json(path, ForgottenUntil(forgotten.last))
    else:
        path.unlink(missing_ok=True)


def noted(folder: Path) -> int:
    """Return the seq of the newest tombstone that the folder's listens obey; 0 without any."""
    path = folder / FORGOTTEN_UNTIL
    if not path.exists():
        return 0
    return storage.read_json(path, "jobs.prepare", ForgottenUntil).until
