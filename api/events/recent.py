"""The listens that came in since the service started: in memory, bounded both ways."""

from array import array
from collections import OrderedDict
from collections.abc import Callable, Sequence


def nothing_more(user_id: int) -> Sequence[int]:
    """Recall nothing: what is not in memory is nowhere."""
    return ()


class RecentEvents:
    """The last `per_user` events of the `max_users` users who came or were recalled last.

    `recall` gives the events, oldest first, of a user who is not in memory.
    """

    def __init__(
        self,
        per_user: int,
        max_users: int,
        recall: Callable[[int], Sequence[int]] = nothing_more,
    ) -> None:
        self._per_user = per_user
        self._max_users = max_users
        self._recall = recall
        self._of_user: OrderedDict[int, array[int]] = OrderedDict()  # least recently active first
        self.evictions = 0  # users whose events were dropped to make room for others

    def put(self, user_id: int, item_id: int) -> None:
        """Append an event; at the bound, the least recently active user's events go."""
        events = self._of_user.get(user_id)
        if events is None:
            self._keep(user_id, [item_id])
            return
        self._of_user.move_to_end(user_id)
        events.append(item_id)
        if len(events) > self._per_user:
            del events[0]

    def last(self, user_id: int, k: int) -> list[int]:
        """The user's last k item ids, newest first, repeats kept; [] without events."""
        events = self._of_user.get(user_id)
        if events is None:
            recalled = self._recall(user_id)
            if not recalled:
                return []
            events = self._keep(user_id, recalled)
        return events[: -k - 1 : -1].tolist()

    def of(self, user_id: int) -> list[int]:
        """All the item ids that are kept of the user, newest first."""
        return self.last(user_id, self._per_user)

    def forget(self, user_id: int) -> None:
        """Drop the user's events from memory."""
        self._of_user.pop(user_id, None)

    def __contains__(self, user_id: int) -> bool:
        """Whether the user's events are in memory."""
        return user_id in self._of_user

    @property
    def users(self) -> int:
        """How many users have events in memory."""
        return len(self._of_user)

    def _keep(self, user_id: int, items: Sequence[int]) -> "array[int]":
        events = self._of_user[user_id] = array("q", items)
        if len(self._of_user) > self._max_users:
            self._of_user.popitem(last=False)
            self.evictions += 1
        return events
