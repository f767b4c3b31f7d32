"""Leave out what users did before they asked the service to forget them."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from jobs.contract import journal, storage
from jobs.contract.ids import MISSING, find
from jobs.contract.names import FORGOTTEN_UNTIL
from jobs.contract.results import ForgottenUntil


class Tombstones(NamedTuple):
    """Which users asked to be forgotten, by user_id, and when."""

    user: np.ndarray  # (m,) int64, ascending
    until: np.ndarray  # (m,) int64, microseconds since 1970

    def covers(self, user: np.ndarray, time: np.ndarray) -> np.ndarray:
        """Return whether each listen (n,) of a user at a time is to be left out."""
        if len(self.user) == 0:
            return np.zeros(len(user), bool)
        place = find(self.user, user)
        covered: np.ndarray = (place != MISSING) & (time <= self.until[place])
        return covered

    @property
    def last(self) -> int:
        """Return the time of the newest tombstone; 0 without any."""
        return int(self.until.max(initial=0))


def read(path: Path) -> Tombstones:
    """Read the tombstones that the service keeps in a file; none where there is no file."""
    stored = sorted(journal.read_forgotten(path).items())
    user, until = np.array(stored, np.int64).reshape(-1, 2).T
    return Tombstones(user, until)


def note(work: Path, forgotten: Tombstones) -> None:
    """Write into WORK the time of the newest tombstone that its listens obey."""
    path = work / FORGOTTEN_UNTIL
    if forgotten.last:
        storage.write_json(path, ForgottenUntil(forgotten.last))
    else:
        path.unlink(missing_ok=True)


def noted(folder: Path) -> int:
    """Return the time of the newest tombstone that the folder's listens obey; 0 without any."""
    path = folder / FORGOTTEN_UNTIL
    if not path.exists():
        return 0
    return storage.read_json(path, "jobs.prepare", ForgottenUntil).until
