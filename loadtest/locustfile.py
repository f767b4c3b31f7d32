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

import json
import logging
import random
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import urlopen

import gevent
from locust import FastHttpUser, between, events, task
from locust.exception import CatchResponseError
from locust.runners import LocalRunner, MasterRunner, WorkerRunner

from loadtest import rules
from loadtest.rules import KINDS, Violation, Visitor, World

HOST = "http://127.0.0.1:8000"
REPORT = Path(__file__).with_name("report.html")
SAMPLE = 2000  # users of the release to play
SESSION = 40  # events of an online user, then the next one comes
UNKNOWN_TRACK = rules.MAX_ID  # a listen all the same
MAX_WORKERS = 16

Check = Callable[[Any], None]


class Run:
    """What the simulated users of this process share while a test runs."""

    def __init__(self, world: World, worker: int = 0, workers: int = 1) -> None:
        self.world = world
        mine = world.known[worker::workers]
        self.readers = deque(mine[::2])  # taken, and put back after the visit
        self.listeners = deque(mine[1::2])  # taken once, since their events stay
        # above real ids; others for each worker and for each second in which a test starts
        self.new_ids = count(2**52 + (worker << 48) + (int(time.time()) % 2**22 << 26))
        self.started: Counter[str] = Counter()  # /recommendations asked for, by kind
        self.answered: Counter[str] = Counter()
        self.before = dict.fromkeys(KINDS, 0)  # what the service had counted already
        self.told: set[tuple[str, str]] = set()

    def newcomer(self) -> Visitor:
        """A user whom the service has never seen."""
        return Visitor(next(self.new_ids))

    def counted(self, own: Counter[str]) -> dict[str, int]:
        """The service's counts, given our own since the start."""
        return {kind: self.before[kind] + own[kind] for kind in KINDS}


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

    def call(self, path: str, check: Check, method: str = "", **parameters: Any) -> Any:
        """The answer; None where it is wrong, and then the request has failed."""
        url = f"{path}?{urlencode(parameters)}"
        method = method or random.choice(("GET", "POST"))
        with self.client.request(method, url, name=path, catch_response=True) as response:
            try:
                answer = body(response)
                check(answer)
            except Violation as violation:
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

    def recommendations(self, who: Visitor) -> list[int]:
        """Ask for some tracks."""
        k = random.choice((10, 100, random.randint(1, rules.LONGEST_LIST)))
        self.shared.started[who.kind] += 1

        def check(answer: Any) -> None:
            self.shared.answered[who.kind] += 1
            rules.recommendations(answer, self.shared.world, who, k)

        answer = self.call("/recommendations", check, user_id=who.user_id, k=k)
        return answer["recs"] if answer else []

    def meet(self, who: Visitor) -> None:
        """Learn which events the service has of the user."""
        path, k = "/get_user_events", rules.EVENTS_KEPT
        answer = self.call(path, rules.any_events, user_id=who.user_id, k=k)
        who.events.clear()
        who.events.extend(answer["events"] if answer else [])


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
        self.call("/get_user_events", lambda a: rules.user_events(a, who, 10), user_id=who.user_id)
        self.call(
            "/get_online_u2i",
            lambda a: rules.online(a, self.shared.world, who, 100, 10),
            user_id=who.user_id,
        )

    @task(1)
    def statistics(self) -> None:
        """The counts follow the answers."""
        low = self.shared.counted(self.shared.answered)

        def check(answer: Any) -> None:
            rules.statistics(answer, low, most(self.environment))

        self.call("/get_statistics", check)


class PersonalUser(Caller):
    """Someone with a list of their own, where any are known; reads only."""

    weight = 5

    @task
    def visit(self) -> None:
        """Look at the own list."""
        readers = self.shared.readers
        who = readers.popleft() if readers else self.shared.newcomer()
        self.meet(who)
        self.recommendations(who)
        if who.kind == "personal":
            readers.append(who)


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
        if self.call("/put_user_event", rules.stored, method="POST", **event):
            self.who.events.appendleft(track)
        else:
            self.begin()  # whether it was stored is not known

    @task(4)
    def look(self) -> None:
        """See what is recommended now."""
        self.recs = self.recommendations(self.who)

    @task(1)
    def near(self) -> None:
        """Ask for what is near the last events."""
        k, n = random.randint(1, 100), random.randint(1, 100)

        def check(answer: Any) -> None:
            rules.online(answer, self.shared.world, self.who, k, n)

        self.call("/get_online_u2i", check, user_id=self.who.user_id, k=k, N=n)

    @task(1)
    def history(self) -> None:
        """Read the own events."""
        k = random.randint(1, 100)

        def check(answer: Any) -> None:
            rules.user_events(answer, self.who, k)

        self.call("/get_user_events", check, user_id=self.who.user_id, k=k)


def body(response: Any) -> Any:
    """The JSON of an answer with status 200."""
    if response.status_code != 200:
        raise Violation(f"status {response.status_code}" if response.status_code else "no answer")
    try:
        return response.json()
    except ValueError:
        raise Violation("not JSON") from None


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


def world_of(work: str, user_ids: str, track_ids: str) -> World:
    """The world by the options: the given ids, else the current release."""
    if user_ids or track_ids:
        try:
            known = [Visitor(user, None) for user in numbers(user_ids)]
            return World(top=[], tracks=numbers(track_ids), known=known)
        except ValueError:
            sys.exit("--user-ids and --track-ids: expected whole numbers, as in 47,16")
    folder = Path(work) / "current"
    try:
        return rules.from_release(folder, SAMPLE)
    except (OSError, ValueError, KeyError) as error:
        sys.exit(f"{folder} is no release ({error}): publish one, or give --user-ids, --track-ids")


def numbers(text: str) -> list[int]:
    """Whole numbers between commas."""
    return [int(number) for number in text.split(",") if number]


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
        shared.before = rules.counts_of(fetch(environment, "/get_statistics"))


@events.test_stop.add_listener
def end(environment: Any, **_: Any) -> None:
    """Compare the service's counts with our own once more."""
    if isinstance(environment.runner, MasterRunner):
        return
    shared = environment.shared
    with failing(environment, "after the test"):
        answer = fetch(environment, "/get_statistics")
        rules.statistics(answer, shared.counted(shared.answered), most(environment))


@events.quitting.add_listener
def refuse_nothing(environment: Any, **_: Any) -> None:
    """A test that asked nothing has failed."""
    if environment.stats.total.num_requests == 0 and not isinstance(
        environment.runner, WorkerRunner
    ):
        logging.error("No request was made")
        environment.process_exit_code = 1


def most(environment: Any) -> dict[str, float]:
    """What the service may have counted: no bound where other workers ask as well."""
    shared = environment.shared
    alone = isinstance(environment.runner, LocalRunner)
    return shared.counted(shared.started) if alone else dict.fromkeys(KINDS, float("inf"))


def check_release(environment: Any) -> None:
    """The service serves the release that the ids are from, if it tells."""
    expected = environment.world.release
    try:
        served = fetch(environment, "/health/ready").get("release")
    except HTTPError as error:
        if error.code == 404:
            return
        raise
    if expected and served != expected:
        raise Violation(f"release {served!r} is served, the ids are from {expected!r}")


def top_list(environment: Any) -> list[int]:
    """The top list as a newcomer gets it, for want of a release."""
    who, k = environment.shared.newcomer(), rules.LONGEST_LIST
    answer = fetch(environment, f"/recommendations?user_id={who.user_id}&k={k}")
    return rules.tracks_of(answer, "recs")


def fetch(environment: Any, path: str) -> Any:
    """The JSON of an answer that is no part of the load."""
    with urlopen(f"{environment.host or HOST}{path}", timeout=10) as response:
        return json.load(response)


@contextmanager
def failing(environment: Any, when: str) -> Iterator[None]:
    """Count an error in the block as a failed request."""
    try:
        yield
    except (OSError, ValueError, Violation) as error:
        environment.events.request.fire(
            request_type="",
            name=when,
            response_time=0,
            response_length=0,
            exception=CatchResponseError(str(error)),
            context={},
        )
