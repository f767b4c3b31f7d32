import sys

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from api.events.recent import RecentEvents

user, item = st.integers(0, 5), st.integers(0, 2**53 - 1)


class EventsMachine(RuleBasedStateMachine):
    """Events beside a plain list of (user, item), newest last, that forgets nothing."""

    @initialize(per_user=st.integers(1, 4), max_users=st.integers(1, 4))
    def start(self, per_user, max_users):
        self.events = RecentEvents(per_user, max_users)
        self.per_user, self.max_users = per_user, max_users
        self.puts = []
        self.kept = []  # users, least recently active first
        self.evicted_at = {}  # how many puts there had been when the user's events went
        self.evictions = 0

    @rule(user=user, item=item)
    def put(self, user, item):
        self.events.add(user, item)
        self.kept = [u for u in self.kept if u != user] + [user]
        if len(self.kept) > self.max_users:
            self.evicted_at[self.kept.pop(0)] = len(self.puts)
            self.evictions += 1
        self.puts.append((user, item))

    def expected(self, user):
        since = self.puts[self.evicted_at.get(user, 0) :]
        return [i for u, i in reversed(since) if u == user][: self.per_user]

    @rule(user=user, k=st.integers(1, 100))
    def read(self, user, k):
        assert self.events.last(user, k) == self.expected(user)[:k]

    @invariant()
    def is_bounded_and_counts_what_it_drops(self):
        if hasattr(self, "events"):
            assert self.events.users == len(self.kept) <= self.max_users
            assert self.events.evictions == self.evictions
            assert all(self.events.of(u) == self.expected(u) for u in range(6))


EventsMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


TestEventsLikeAPlainList = EventsMachine.TestCase


def test_repeats_are_kept_newest_first():
    events = RecentEvents(100, 10)
    for track in (679169, 679169, 630670):
        events.add(16, track)
    assert events.last(16, 10) == [630670, 679169, 679169]


def test_exactly_the_bound_of_events_is_kept():
    events = RecentEvents(10, 10)
    for track in range(11):
        events.add(1, track)
    assert events.of(1) == [*range(10, 0, -1)]


def test_a_hundred_events_take_less_than_a_kilobyte():
    events = RecentEvents(100, 10)
    for track in range(1000):
        events.add(1, track)
    assert sys.getsizeof(events._events[1]) < 1024
