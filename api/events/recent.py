"""The events of recently active users in memory, bounded both in users and in events of each."""

from array import array
from collections import OrderedDict
from collections.abc import Iterable, Sequence


class RecentEvents:
    """The last `per_user` events of the `max_users` most recently active users.

    A user becomes active by a new event, or when their events are read back from the journal.

    Both stores are built on it. Example with per_user=2 and max_users=2:

        add(7, 10); add(7, 20); add(7, 30)      7: [20, 30]
        add(8, 10)                              7: [20, 30], 8: [10]
        add(9, 10)                              8: [10], 9: [10]    evictions == 1
    """

    def __init__(self, per_user: int, max_users: int) -> None:
        self._per_user = per_user
        self._max_users = max_users
        # 8 bytes an event; a list of Python numbers would take 40
        self._events: OrderedDict[int, array[int]] = OrderedDict()  # least recently active first
        self.evictions = 0  # users whose events were removed to make room for others

    def add(self, user_id: int, item_id: int) -> None:
        """Append an event; beyond the bound, the least recently active user is removed."""
        events = self._events.get(user_id)
        if events is None:
            self._insert(user_id, [item_id])
            return
        self._events.move_to_end(user_id)
        events.append(item_id)
        if len(events) > self._per_user:
            del events[0]

    def last(self, user_id: int, k: int) -> list[int]:
        """Return the user's last k item ids, newest first, repeats kept; [] without events."""
        events = self._events.get(user_id)
        if events is None:
            recalled = self._recall(user_id)
            if not recalled:
                return []
            events = self._insert(user_id, recalled)
        return events[: -k - 1 : -1].tolist()

    def of(self, user_id: int) -> list[int]:
        """Return all item ids that are kept of the user, newest first."""
        return self.last(user_id, self._per_user)

    def remove(self, user_id: int) -> None:
        """Remove the user's events from memory, if they are there."""
        self._events.pop(user_id, None)

    def drop(self, user_ids: Iterable[int]) -> None:
        """Remove several users' events from memory."""
        for user_id in user_ids:
            self.remove(user_id)

    def __contains__(self, user_id: int) -> bool:
        """Return whether the user's events are in memory."""
        return user_id in self._events

    @property
    def users(self) -> int:
        """How many users have events in memory."""
        return len(self._events)

    def _recall(self, user_id: int) -> Sequence[int]:
        """Return the events, oldest first, of a user who is not in memory: here there are none."""
        return ()

    def _insert(self, user_id: int, items: Sequence[int]) -> "array[int]":
        events = self._events[user_id] = array("q", items)
        if len(self._events) > self._max_users:
            self._events.popitem(last=False)
            self.evictions += 1
        return events
