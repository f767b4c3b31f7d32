"""Load test of the service with three kinds of users; every answer is checked.

    locust -f loadtest/locustfile.py
    locust -f loadtest/locustfile.py --headless -u 30 -r 10 -t 60s --host http://127.0.0.1:8000

A cold user is a new user at each call. Personal users have a list and only read. Online users put
events and check how their recommendations change. A wrong answer counts as a failed request, with
the reason. If there is one, or if no request was made, the exit code is 1. Headless runs write
loadtest/report.html unless --html names another file.

Ids come from --user-ids and --track-ids, or without these from the release WORK/current. Nobody
else may use the service during the test, because the expected answers follow from the test's own
calls. No two simulated users and no two workers (at most 16) use the same ids.
"""

import logging
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import gevent
from locust import FastHttpUser, between, events, task
from locust.runners import MasterRunner, WorkerRunner

from loadtest.support import expectations
from loadtest.support.expectations import Violation, Visitor
from loadtest.support.run_state import (
    HOST,
    Run,
    check_release,
    failing,
    fetch,
    most,
    top_list,
    world_of,
)

REPORT = Path(__file__).with_name("report.html")
SESSION = 40  # events of an online user before the next one comes
UNKNOWN_TRACK = expectations.MAX_ID  # in no release; the service takes its events all the same
UNKNOWN_TEXT = "a track, that “no” release/has?"  # the same where ids are text
MAX_WORKERS = 16


Check = Callable[[Any], None]


class Caller(FastHttpUser):
    """Calls the service and checks its answers."""

    abstract = True
    host = HOST
    wait_time = between(0.05, 0.3)
    connection_timeout = 5.0
    network_timeout = 10.0

    def on_start(self) -> None:
        """Take what the users of this process share."""
        self.shared: Run = self.environment.shared

    def call(
        self, path: str, check: Check, method: str = "", json: Any = None, **parameters: Any
    ) -> Any:
        """Send a request and check the answer; return it, or None if it was wrong.

        `check` raises a Violation for a wrong answer; the request then counts as failed. Without a
        method, GET or POST is drawn.
        """
        url = f"{path}?{urlencode(parameters)}"
        method = method or random.choice(("GET", "POST"))
        self.shared.answers += 1
        with self.client.request(
            method, url, name=path, catch_response=True, json=json
        ) as response:
            try:
                answer = body(response)
                check(answer)
            except Violation as violation:
                self.shared.violations += 1
                response.failure(str(violation))
                self.log_first(url, str(violation))
                return None
        return answer

    def log_first(self, url: str, reason: str) -> None:
        """Log the first wrong answer for each path and reason."""
        kind = url.partition("?")[0], reason
        if kind not in self.shared.logged:
            self.shared.logged.add(kind)
            logging.error("%s: %s", url, reason)

    def recommendations(self, who: Visitor, explain: bool = False) -> list[expectations.Id]:
        """Ask for recommendations with a random k; return them, or [] if the answer was wrong."""
        k = random.choice((10, 100, random.randint(1, expectations.LONGEST_LIST)))
        self.shared.started[who.kind] += 1

        def check(answer: Any) -> None:
            self.shared.answered[who.kind] += 1
            self.shared.after_events += len(who.events) > 0
            plain = expectations.without_reasons(answer, who) if explain else answer
            expectations.recommendations(plain, self.shared.world, who, k)

        options = {"explain": "true"} if explain else {}
        answer = self.call("/recommendations", check, user_id=who.user_id, k=k, **options)
        return answer["recs"] if answer else []

    def recommend_many(self, who: list[Visitor]) -> None:
        """Ask for the lists of several users in one request."""
        k = random.randint(1, 100)
        self.shared.started.update(one.kind for one in who)

        def check(answer: Any) -> None:
            self.shared.answered.update(one.kind for one in who)
            expectations.batch(answer, self.shared.world, who, k)

        request = {"user_ids": [one.user_id for one in who], "k": k}
        self.call("/recommendations/batch", check, method="POST", json=request)

    def meet(self, who: Visitor) -> None:
        """Read the user's events from the service, so that later answers can be checked."""
        path, k = "/get_user_events", expectations.EVENTS_KEPT
        answer = self.call(path, expectations.any_events, user_id=who.user_id, k=k)
        who.events.clear()
        who.events.extend(answer["events"] if answer else [])


def body(response: Any) -> Any:
    """Return the JSON of an answer. Raises Violation if the status is not 200 or it is no JSON."""
    if response.status_code != 200:
        raise Violation(f"status {response.status_code}" if response.status_code else "no answer")
    try:
        return response.json()
    except ValueError:
        raise Violation("not JSON") from None


class ColdUser(Caller):
    """A user whom the service has never seen, without events; another one at each call."""

    weight = 2

    @task(6)
    def top_list(self) -> None:
        """Check that a new user gets the top list."""
        self.recommendations(self.shared.newcomer())

    @task(1)
    def nothing_near(self) -> None:
        """Check that a new user has no events, and so no tracks that are similar to them."""
        who = self.shared.newcomer()
        self.call(
            "/get_user_events", lambda a: expectations.user_events(a, who, 10), user_id=who.user_id
        )
        self.call(
            "/get_online_u2i",
            lambda a: expectations.online(a, self.shared.world, who, 100, 10),
            user_id=who.user_id,
        )

    @task(1)
    def statistics(self) -> None:
        """Check that the service counts its answers."""
        low = self.shared.counted(self.shared.answered)

        def check(answer: Any) -> None:
            expectations.statistics(answer, low, most(self.environment))

        self.call("/get_statistics", check)


class PersonalUser(Caller):
    """A user of the release, who only reads; a new user if none is left."""

    weight = 5

    @task(20)
    def visit(self) -> None:
        """Read the user's recommendations."""
        readers = self.shared.readers
        who = readers.popleft() if readers else self.shared.newcomer()
        self.meet(who)
        self.recommendations(who)
        if who.kind == "personal":
            readers.append(who)

    @task(1)
    def visit_together(self) -> None:
        """Read the recommendations of known and new users in one request."""
        readers = self.shared.readers
        who = [readers.popleft() for _ in range(min(5, len(readers)))]
        for one in who:
            self.meet(one)
        self.recommend_many([*who, *(self.shared.newcomer() for _ in range(3))])
        readers.extend(who)


class OnlineUser(Caller):
    """A user who puts events; half of them are users of the release, while any are left."""

    weight = 3

    def on_start(self) -> None:
        """Start with the first user."""
        super().on_start()
        self.begin()

    def begin(self) -> None:
        """Go on with the next user: read their events and recommendations."""
        known = self.shared.listeners
        self.who = known.popleft() if known and random.random() < 0.5 else self.shared.newcomer()
        self.meet(self.who)
        self.recs = self.recommendations(self.who)

    @task(5)
    def listen(self) -> None:
        """Put an event: a recommended track, another one, or one that no release has."""
        if len(self.who.events) >= SESSION:
            self.begin()
        world = self.shared.world
        unknown = UNKNOWN_TEXT if world.text_tracks else UNKNOWN_TRACK
        others = [*self.recs[:10], *random.choices(world.tracks or [unknown], k=5)]
        track = random.choice([*others, unknown])
        event = {"user_id": self.who.user_id, "item_id": track}
        if self.call("/put_user_event", expectations.stored, method="POST", **event):
            self.who.events.appendleft(track)
        else:
            self.begin()  # the event may or may not be stored

    @task(4)
    def look(self) -> None:
        """Read the recommendations after the events so far."""
        self.recs = self.recommendations(self.who)

    @task(1)
    def wonder(self) -> None:
        """Read the recommendations with their reasons."""
        self.recs = self.recommendations(self.who, explain=True)

    @task(1)
    def near(self) -> None:
        """Read the tracks that are similar to the last events."""
        k, n = random.randint(1, 100), random.randint(1, 100)

        def check(answer: Any) -> None:
            expectations.online(answer, self.shared.world, self.who, k, n)

        self.call("/get_online_u2i", check, user_id=self.who.user_id, k=k, N=n)

    @task(1)
    def history(self) -> None:
        """Read the user's events."""
        k = random.randint(1, 100)

        def check(answer: Any) -> None:
            expectations.user_events(answer, self.who, k)

        self.call("/get_user_events", check, user_id=self.who.user_id, k=k)


@events.init_command_line_parser.add_listener
def add_options(parser: Any, **_: Any) -> None:
    """Add the options that say where ids come from."""
    parser.add_argument(
        "--work",
        default="data",
        env_var="RECO_WORK",
        help="folder whose `current` release is served (default: data)",
    )
    parser.add_argument(
        "--user-ids",
        default="",
        help="ids of users with a list, as 47,16; used in place of a release",
    )
    parser.add_argument("--track-ids", default="", help="ids of tracks to play, as 5,6,7")


@events.init.add_listener
def set_up(environment: Any, **_: Any) -> None:
    """Read the release or the ids; exit with one line if there are none."""
    options = environment.parsed_options
    if options.headless and not options.html_file:
        options.html_file = str(REPORT)
    environment.world = world_of(options.work, options.user_ids, options.track_ids)
    gevent.get_hub().loop.update_now()  # so that reading does not count as part of --run-time


@events.test_start.add_listener
def begin(environment: Any, **_: Any) -> None:
    """Divide the ids among the workers, and read what the service has counted so far."""
    runner = environment.runner
    if isinstance(runner, MasterRunner):
        return
    share = (runner.worker_index, MAX_WORKERS) if isinstance(runner, WorkerRunner) else (0, 1)
    environment.shared = shared = Run(environment.world, *share)
    with failing(environment, "before the test"):
        check_release(environment)
        if not shared.world.top:
            shared.world.top = top_list(environment)
        shared.before = expectations.counts_of(fetch(environment, "/get_statistics"))


@events.test_stop.add_listener
def end(environment: Any, **_: Any) -> None:
    """Compare the service's counts with those of the test, and print a summary."""
    if isinstance(environment.runner, MasterRunner):
        return
    shared = environment.shared
    with failing(environment, "after the test"):
        answer = fetch(environment, "/get_statistics")
        expectations.statistics(answer, shared.counted(shared.answered), most(environment))
    print(
        f"{shared.answers:,} answers, {shared.violations:,} wrong; "
        f"{shared.after_events:,} of them were lists that had to reflect earlier events"
    )


@events.quitting.add_listener
def fail_without_requests(environment: Any, **_: Any) -> None:
    """Fail a test that made no request."""
    if environment.stats.total.num_requests == 0 and not isinstance(
        environment.runner, WorkerRunner
    ):
        logging.error("No request was made")
        environment.process_exit_code = 1
