"""The listens that came in since the service started: in memory, bounded both ways."""

from array import array
from collections import OrderedDict


class Events:
    """The last `per_user` events of the `max_users` users whose last event is the most recent."""

    def __init__(self, per_user: int, max_users: int) -> None:
        self._per_user = per_user
        self._max_users = max_users
        self._of_user: OrderedDict[int, array[int]] = OrderedDict()  # least recently active first
        self.evictions = 0  # users whose events were dropped to make room for others

    def put(self, user_id: int, item_id: int) -> None:
        """Append an event; at the bound, the least recently active user's events go."""
        events = self._of_user.get(user_id)
        if events is None:
            events = self._of_user[user_id] = array("q")
            if len(self._of_user) > self._max_users:
                self._of_user.popitem(last=False)
                self.evictions += 1
        else:
            self._of_user.move_to_end(user_id)
        events.append(item_id)
        if len(events) > self._per_user:
            del events[0]

    def last(self, user_id: int, k: int) -> list[int]:
        """The user's last k item ids, newest first, repeats kept; [] without events."""
        events = self._of_user.get(user_id)
        return events[: -k - 1 : -1].tolist() if events else []

    def of(self, user_id: int) -> list[int]:
        """All the item ids that are kept of the user, newest first."""
        return self.last(user_id, self._per_user)

    @property
    def users(self) -> int:
        """How many users have events."""
        return len(self._of_user)
