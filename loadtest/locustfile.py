"""Load test of the service: three kinds of user; every answer is checked.

    locust -f loadtest/locustfile.py
    locust -f loadtest/locustfile.py --headless -u 30 -r 10 -t 60s --host http://127.0.0.1:8000

Cold users are new each time, personal users have a list and only read, online users listen and
look at what that changes. A wrong answer fails its request, with the reason; then, or when
nothing was asked, the exit code is 1. Headless runs write loadtest/report.html unless --html
names another file.

Ids come from the release WORK/current, else from --user-ids and --track-ids. Nobody else may use
the service meanwhile: what it must answer follows from this test's own calls. Every simulated
user, and every worker (16 at most), has ids of its own.
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
SESSION = 40  # events of an online user, then the next one comes
UNKNOWN_TRACK = expectations.MAX_ID  # a listen all the same
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
        """Find what is shared."""
        self.shared: Run = self.environment.shared

    def call(
        self, path: str, check: Check, method: str = "", json: Any = None, **parameters: Any
    ) -> Any:
        """The answer; None where it is wrong, and then the request has failed."""
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
                self.tell(url, str(violation))
                return None
        return answer

    def tell(self, url: str, reason: str) -> None:
        """Log the first call of each kind that went wrong."""
        kind = url.partition("?")[0], reason
        if kind not in self.shared.told:
            self.shared.told.add(kind)
            logging.error("%s: %s", url, reason)

    def recommendations(self, who: Visitor, explain: bool = False) -> list[int]:
        """Ask for some tracks."""
        k = random.choice((10, 100, random.randint(1, expectations.LONGEST_LIST)))
        self.shared.started[who.kind] += 1

        def check(answer: Any) -> None:
            self.shared.answered[who.kind] += 1
            self.shared.after_events += len(who.events) > 0
            reasons = expectations.without_reasons(answer, who) if explain else answer
            expectations.recommendations(reasons, self.shared.world, who, k)

        more = {"explain": "true"} if explain else {}
        answer = self.call("/recommendations", check, user_id=who.user_id, k=k, **more)
        return answer["recs"] if answer else []

    def recommend_many(self, who: list[Visitor]) -> None:
        """Ask for the lists of several users at once."""
        k = random.randint(1, 100)
        self.shared.started.update(one.kind for one in who)

        def check(answer: Any) -> None:
            self.shared.answered.update(one.kind for one in who)
            expectations.batch(answer, self.shared.world, who, k)

        wanted = {"user_ids": [one.user_id for one in who], "k": k}
        self.call("/recommendations/batch", check, method="POST", json=wanted)

    def meet(self, who: Visitor) -> None:
        """Learn which events the service has of the user."""
        path, k = "/get_user_events", expectations.EVENTS_KEPT
        answer = self.call(path, expectations.any_events, user_id=who.user_id, k=k)
        who.events.clear()
        who.events.extend(answer["events"] if answer else [])


def body(response: Any) -> Any:
    """The JSON of an answer with status 200."""
    if response.status_code != 200:
        raise Violation(f"status {response.status_code}" if response.status_code else "no answer")
    try:
        return response.json()
    except ValueError:
        raise Violation("not JSON") from None


class ColdUser(Caller):
    """Someone new each time, without events."""

    weight = 2

    @task(6)
    def top_list(self) -> None:
        """A newcomer gets the top list."""
        self.recommendations(self.shared.newcomer())

    @task(1)
    def nothing_near(self) -> None:
        """A newcomer has no events, and nothing is near them."""
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
        """The counts follow the answers."""
        low = self.shared.counted(self.shared.answered)

        def check(answer: Any) -> None:
            expectations.statistics(answer, low, most(self.environment))

        self.call("/get_statistics", check)


class PersonalUser(Caller):
    """Someone with a list of their own, where any are known; reads only."""

    weight = 5

    @task(20)
    def visit(self) -> None:
        """Look at the own list."""
        readers = self.shared.readers
        who = readers.popleft() if readers else self.shared.newcomer()
        self.meet(who)
        self.recommendations(who)
        if who.kind == "personal":
            readers.append(who)

    @task(1)
    def visit_together(self) -> None:
        """Several come at once, newcomers among them."""
        readers = self.shared.readers
        who = [readers.popleft() for _ in range(min(5, len(readers)))]
        for one in who:
            self.meet(one)
        self.recommend_many([*who, *(self.shared.newcomer() for _ in range(3))])
        readers.extend(who)


class OnlineUser(Caller):
    """Someone who listens; half of them have a list of their own, where any are known."""

    weight = 3

    def on_start(self) -> None:
        """Begin the first session."""
        super().on_start()
        self.begin()

    def begin(self) -> None:
        """Become the next user."""
        known = self.shared.listeners
        self.who = known.popleft() if known and random.random() < 0.5 else self.shared.newcomer()
        self.meet(self.who)
        self.recs = self.recommendations(self.who)

    @task(5)
    def listen(self) -> None:
        """Play something that was recommended, something else, or something unheard of."""
        if len(self.who.events) >= SESSION:
            self.begin()
        others = [*self.recs[:10], *random.choices(self.shared.world.tracks or [0], k=5)]
        track = random.choice([*others, UNKNOWN_TRACK])
        event = {"user_id": self.who.user_id, "item_id": track}
        if self.call("/put_user_event", expectations.stored, method="POST", **event):
            self.who.events.appendleft(track)
        else:
            self.begin()  # whether it was stored is not known

    @task(4)
    def look(self) -> None:
        """See what is recommended now."""
        self.recs = self.recommendations(self.who)

    @task(1)
    def wonder(self) -> None:
        """See what is recommended now, and why."""
        self.recs = self.recommendations(self.who, explain=True)

    @task(1)
    def near(self) -> None:
        """Ask for what is near the last events."""
        k, n = random.randint(1, 100), random.randint(1, 100)

        def check(answer: Any) -> None:
            expectations.online(answer, self.shared.world, self.who, k, n)

        self.call("/get_online_u2i", check, user_id=self.who.user_id, k=k, N=n)

    @task(1)
    def history(self) -> None:
        """Read the own events."""
        k = random.randint(1, 100)

        def check(answer: Any) -> None:
            expectations.user_events(answer, self.who, k)

        self.call("/get_user_events", check, user_id=self.who.user_id, k=k)


@events.init_command_line_parser.add_listener
def add_options(parser: Any, **_: Any) -> None:
    """Where ids come from."""
    parser.add_argument(
        "--work",
        default="data",
        env_var="RECO_WORK",
        help="folder whose `current` release is served (default: data)",
    )
    parser.add_argument(
        "--user-ids", default="", help="users with a list, as in 47,16: for want of a release"
    )
    parser.add_argument("--track-ids", default="", help="tracks to listen to, likewise")


@events.init.add_listener
def set_up(environment: Any, **_: Any) -> None:
    """Read what is to be expected; without it the process ends with one line."""
    options = environment.parsed_options
    if options.headless and not options.html_file:
        options.html_file = str(REPORT)
    environment.world = world_of(options.work, options.user_ids, options.track_ids)
    gevent.get_hub().loop.update_now()  # else the reading would count as part of --run-time


@events.test_start.add_listener
def begin(environment: Any, **_: Any) -> None:
    """Share out the ids, and take down what the service has counted so far."""
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
    """Compare the service's counts with our own once more."""
    if isinstance(environment.runner, MasterRunner):
        return
    shared = environment.shared
    with failing(environment, "after the test"):
        answer = fetch(environment, "/get_statistics")
        expectations.statistics(answer, shared.counted(shared.answered), most(environment))
    print(
        f"{shared.answers:,} answers, {shared.violations:,} violations; read your writes: "
        f"{shared.after_events:,} lists were asked for after an event"
    )


@events.quitting.add_listener
def refuse_nothing(environment: Any, **_: Any) -> None:
    """A test that asked nothing has failed."""
    if environment.stats.total.num_requests == 0 and not isinstance(
        environment.runner, WorkerRunner
    ):
        logging.error("No request was made")
        environment.process_exit_code = 1
