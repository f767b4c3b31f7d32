"""Which users may have events in the journal: answers without a file access, in fixed memory."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from jobs.contract.journal import Id

BITS = 27  # of a position: the filter has 2^27 bits, which take 16 MiB
MASK = (1 << BITS) - 1
FACTOR = 0x9E3779B97F4A7C15  # 2^64 by the golden ratio (Knuth's multiplicative hashing)


class UserFilter:
    """A Bloom filter of user ids (Bloom 1970): two bits are set for each user.

    A user who was added is always found. One who was not is found by mistake if others set both
    bits: 0.02 % of users after a million were added, 2 % after ten million. Of a text id Python's
    own hash is used, which differs from process to process, as the filter does.
    """

    def __init__(self) -> None:
        self._bytes = bytearray(1 << BITS - 3)

    def add(self, user_id: Id) -> None:
        """Add a user id."""
        product = hash(user_id) * FACTOR  # a whole number below 2^61 - 1 is its own hash
        for position in (product >> 37 & MASK, product >> 10 & MASK):
            self._bytes[position >> 3] |= 1 << (position & 7)

    def add_all(self, user_ids: NDArray[np.int64] | Sequence[str]) -> None:
        """Add many user ids at once."""
        if not isinstance(user_ids, np.ndarray):
            user_ids = np.fromiter(map(hash, user_ids), np.int64, len(user_ids))
        product = user_ids.astype(np.uint64) * np.uint64(FACTOR)  # the lowest 64 bits of it
        view = np.frombuffer(self._bytes, np.uint8)
        for shift in (37, 10):
            positions = product >> np.uint64(shift) & np.uint64(MASK)
            bits = np.left_shift(1, positions & np.uint64(7)).astype(np.uint8)
            np.bitwise_or.at(view, (positions >> np.uint64(3)).astype(np.int64), bits)

    def __contains__(self, user_id: Id) -> bool:
        """Return whether the user may have been added."""
        product = hash(user_id) * FACTOR
        position = product >> 37 & MASK
        if not self._bytes[position >> 3] >> (position & 7) & 1:
            return False
        position = product >> 10 & MASK
        return bool(self._bytes[position >> 3] >> (position & 7) & 1)
