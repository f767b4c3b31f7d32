"""Any order of calls, reloads and restarts keeps the promises, through HTTP."""

from itertools import count

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.api.release.test_answers import client_of
from tests.support import releases

USERS = [47, 16, 9, 10]
KEPT = 6  # events of a user
RECENT = 2  # of them are kept out where heard tracks are included


class ThroughHttp(RuleBasedStateMachine):
    """The application beside a plain list of events a user, in memory for two users at a time.

    "first" excludes what was heard, "second" includes it; both have the lists of tests/releases.py.
    """

    work = None
    states, newcomers = count(), count(1000)
    user = st.sampled_from(USERS)
    item = st.integers(1, 310)

    def __init__(self):
        super().__init__()
        self.events = {user: [] for user in USERS}  # newest first, all of them
        self.forgotten = set()
        self.release = "first"
        self.context = None

    @initialize(journal=st.sampled_from(["normal", "full"]))
    def start(self, journal):
        self.settings = {
            "journal": journal, "state": self.work / str(next(self.states)),
            "events_per_user": KEPT, "max_users": 2, "recent_events": RECENT,
        }  # fmt: skip
        self.restart()

    @rule()
    def restart(self):
        if self.context:
            self.context.__exit__(None, None, None)
        self.context = client_of(self.work, **self.settings)
        self.client = self.context.__enter__()
        self.release = "first"  # that `current` points to
        self.personal = self.default = 0

    def teardown(self):
        if self.context:
            self.context.__exit__(None, None, None)

    @rule(release=st.sampled_from(["first", "second"]))
    def load(self, release):
        answer = self.client.answer("/load_recommendations", release=release)
        assert (answer["release"], answer["previous"]) == (release, self.release)
        self.release = release

    @rule(user=user, items=st.lists(item, min_size=1, max_size=3))
    def put(self, user, items):
        self.client.put(user, *items)
        self.events[user][:0] = reversed(items)

    @rule(item=item)
    def put_of_others(self, item):
        """As many new users as fit into memory: everyone else leaves it."""
        for _ in range(2):
            self.client.put(next(self.newcomers), item)
        assert self.client.answer("/health/ready")["users_with_events"] == 2

    @rule(user=user, k=st.integers(1, 100))
    def read(self, user, k):
        answer = self.client.answer("/get_user_events", user_id=user, k=k)
        assert answer == {"events": self.events[user][:KEPT][:k]}

    @rule(user=user)
    def forget(self, user):
        """Neither a restart nor another release brings back what was before."""
        receipt = self.client.answer("/forget_user", "POST", user_id=user)
        known = user not in self.forgotten
        assert (receipt["events"], receipt["final_list"], receipt["history"]) == (
            len(self.events[user]),
            len(releases.FINAL.get(user, [])) * known,
            len(releases.HEARD.get(user, [])) * known,
        )
        self.events[user] = []
        self.forgotten.add(user)

    def kept_out(self, user):
        if self.release == "second":
            return {*self.events[user][:RECENT]}
        heard = [] if user in self.forgotten else releases.HEARD.get(user, [])
        return {*self.events[user][:KEPT], *heard}

    def check(self, user, k, recs):
        out = self.kept_out(user).intersection(releases.TRACKS)
        assert len(recs) == len(set(recs)) == min(k, 300 - len(out))
        assert not out.intersection(recs)
        if self.events[user] and k > 1 and (near := self.near(user, 10, 20)):
            assert recs[0] in near
        personal = user in releases.FINAL and user not in self.forgotten
        self.personal += personal
        self.default += not personal

    def near(self, user, k, n):
        """The neighbours of the last k events, of each the first n that may be recommended."""
        out = self.kept_out(user)
        lists = (releases.SIMILAR.get(event, []) for event in self.events[user][:KEPT][:k])
        return {t for near in lists for t in [t for t in near if t not in out][:n]}

    @rule(user=user, k=st.integers(1, 310), explain=st.booleans())
    def recommend(self, user, k, explain):
        answer = self.client.answer("/recommendations", user_id=user, k=k, explain=explain)
        self.check(user, k, answer["recs"])
        for reason in answer.get("reasons", []):
            assert {*reason["events"]} <= {*self.events[user][:KEPT]}

    @rule(users=st.lists(user, min_size=1, max_size=5), k=st.integers(1, 310))
    def recommend_many(self, users, k):
        answer = self.client.post("/recommendations/batch", json={"user_ids": users, "k": k})
        for user, recs in zip(users, answer.json()["recs"], strict=True):
            self.check(user, k, recs)

    @rule(user=user)
    def neighbours(self, user):
        recs = self.client.answer("/get_online_u2i", user_id=user, k=10, N=5)["recs"]
        assert {*recs} == self.near(user, 10, 5)

    @invariant()
    def statistics_count_every_answer_since_the_start(self):
        if self.context:
            assert self.client.answer("/get_statistics") == {
                "request_personal_count": self.personal,
                "request_default_count": self.default,
            }


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    work = tmp_path_factory.mktemp("work")
    releases.make(work, "second", heard_rule="include")
    releases.make(work, "first")
    return work


def test_any_order_of_calls_keeps_the_promises(work):
    machine = type("Machine", (ThroughHttp,), {"work": work})
    machine.TestCase.settings = settings(max_examples=12, stateful_step_count=30, deadline=None)
    machine.TestCase().runTest()
