"""The events of recently active users in memory, bounded both in users and in events of each."""

import sys
from array import array
from collections import OrderedDict
from collections.abc import Collection, Iterable, Sequence

from jobs.contract.journal import Events, Id


class RecentEvents:
    """The last `per_user` events of the `max_users` most recently active users.

    A user becomes active by a new event, or when their events are read back from the journal.

    All stores are built on it. Example with per_user=2 and max_users=2:

        add(7, 10); add(7, 20); add(7, 30)      7: [20, 30]
        add(8, 10)                              7: [20, 30], 8: [10]
        add(9, 10)                              8: [10], 9: [10]    evictions == 1
    """

    def __init__(self, per_user: int, max_users: int) -> None:
        self._per_user = per_user
        self._max_users = max_users
        # 8 bytes an event; a list of Python numbers would take 40. Text ids are in lists, of
        # references to texts that are in memory once (see sys.intern).
        self._events: OrderedDict[Id, array[int] | list[str]] = OrderedDict()  # least recent first
        self.evictions = 0  # users whose events were removed to make room for others

    def add(self, user_id: Id, item_id: Id) -> None:
        """Append an event; beyond the bound, the least recently active user is removed."""
        events = self._events.get(user_id)
        if events is None:
            self._insert(user_id, [item_id])
            return
        self._events.move_to_end(user_id)
        if isinstance(item_id, str):
            item_id = sys.intern(item_id)
        events.append(item_id)  # type: ignore[arg-type]
        if len(events) > self._per_user:
            del events[0]

    def last(self, user_id: Id, k: int) -> list[Id]:
        """Return the user's last k item ids, newest first, repeats kept; [] without events."""
        return list(self._kept(user_id)[: -k - 1 : -1])

    def of(self, user_id: Id) -> list[Id]:
        """Return all item ids that are kept of the user, newest first."""
        return self.last(user_id, self._per_user)

    def packed(self, user_id: Id) -> Events:
        """Return the same, as bytes if they are whole numbers; empty without events."""
        events = self._kept(user_id)[::-1]
        return events.tobytes() if isinstance(events, array) else tuple(events)

    def _kept(self, user_id: Id) -> Sequence[Id]:
        """Return the events that are kept of the user, oldest first."""
        events = self._events.get(user_id)
        if events is None:
            recalled = self._recall(user_id)
            return self._insert(user_id, recalled) if recalled else ()
        return events

    async def refresh(self, user_ids: Iterable[Id]) -> bool:
        """Do nothing: what is in memory is right."""
        return True

    def remove(self, user_id: Id) -> None:
        """Remove the user's events from memory, if they are there."""
        self._events.pop(user_id, None)

    def drop(self, user_ids: Iterable[Id]) -> None:
        """Remove several users' events from memory."""
        for user_id in user_ids:
            self.remove(user_id)

    @property
    def users_in_memory(self) -> Collection[Id]:
        """The users who have events in memory."""
        return self._events.keys()

    def __contains__(self, user_id: Id) -> bool:
        """Return whether the user's events are in memory."""
        return user_id in self._events

    @property
    def users(self) -> int:
        """How many users have events in memory."""
        return len(self._events)

    def _recall(self, user_id: Id) -> Sequence[Id]:
        """Return the events, oldest first, of a user who is not in memory: here there are none."""
        return ()

    def _insert(self, user_id: Id, items: Sequence[Id]) -> "array[int] | list[str]":
        texts = [sys.intern(item) for item in items if isinstance(item, str)]
        events = self._events[user_id] = texts or array("q", items)  # type: ignore[arg-type]
        if len(self._events) > self._max_users:
            self._events.popitem(last=False)
            self.evictions += 1
        return events
