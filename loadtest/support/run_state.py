"""The state of one run of the load test: ids, what the simulated users share, and counts."""

import json
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import urlopen

from locust.exception import CatchResponseError
from locust.runners import LocalRunner

from loadtest.support import expectations
from loadtest.support.expectations import KINDS, Id, Violation, Visitor, World

HOST = "http://127.0.0.1:8000"
SAMPLE = 2000  # users of the release that the test simulates


class Run:
    """What the simulated users of this process share while a test runs."""

    def __init__(self, world: World, worker: int = 0, workers: int = 1) -> None:
        self.world = world
        mine = world.known[worker::workers]
        self.readers = deque(mine[::2])  # each is taken for a visit and put back after it
        self.listeners = deque(mine[1::2])  # each is taken only once, since the events stay
        # Ids above all real ones, different for each worker and each second in which a test starts:
        self.new_ids = count(2**52 + (worker << 48) + (int(time.time()) % 2**22 << 26))
        self.started: Counter[str] = Counter()  # lists of /recommendations asked for, by kind
        self.answered: Counter[str] = Counter()  # those that were answered
        self.answers = self.violations = 0
        self.after_events = 0  # lists that had to reflect earlier events
        self.before = dict.fromkeys(KINDS, 0)  # what the service had counted before the test
        self.logged: set[tuple[str, str]] = set()  # paths and reasons of wrong answers

    def newcomer(self) -> Visitor:
        """Return a user whom the service has never seen."""
        number = next(self.new_ids)
        return Visitor(f"new listener {number}" if self.world.text_users else number)

    def counted(self, since_start: Counter[str]) -> dict[str, int]:
        """Return the counts that the service should have, given those since the start."""
        return {kind: self.before[kind] + since_start[kind] for kind in KINDS}


def world_of(work: str, user_ids: str, track_ids: str) -> World:
    """Return the world of the ids in the options or, without any, of the current release."""
    if user_ids or track_ids:
        try:
            users, tracks = ids(user_ids), ids(track_ids)
        except ValueError:
            sys.exit("--user-ids, --track-ids: expected whole numbers or texts, as in 47,16")
        texts = [any(isinstance(one, str) for one in found) for found in (users, tracks)]
        known = [Visitor(user, None) for user in users]
        return World([], tracks, known, text_users=texts[0], text_tracks=texts[1])
    folder = Path(work) / "current"
    try:
        return expectations.from_release(folder, SAMPLE)
    except (OSError, ValueError, KeyError) as error:
        sys.exit(
            f"{folder} is not a release ({error}): make one with jobs.publish, or pass --user-ids "
            "and --track-ids"
        )


def ids(text: str) -> list[Id]:
    """Return the ids between commas: whole numbers if all of them are; ValueError if one is bad."""
    found = [one for one in text.split(",") if one]
    if any(one.isspace() for one in found):
        raise ValueError(text)
    return [int(one) for one in found] if all(map(str.isdecimal, found)) else [*found]


def most(environment: Any) -> dict[str, float]:
    """Return the highest counts that are right; there is no bound if other workers ask as well."""
    shared = environment.shared
    alone = isinstance(environment.runner, LocalRunner)
    return shared.counted(shared.started) if alone else dict.fromkeys(KINDS, float("inf"))


def check_release(environment: Any) -> None:
    """Raise Violation if the service serves another release than that of the ids.

    A service without /health/ready is not checked.
    """
    expected = environment.world.release
    try:
        served = fetch(environment, "/health/ready").get("release")
    except HTTPError as error:
        if error.code == 404:
            return
        raise
    if expected and served != expected:
        raise Violation(f"release {served!r} is served, but the ids are from {expected!r}")


def top_list(environment: Any) -> list[Id]:
    """Ask the service for the top list, as a new user gets it; used if there is no release."""
    who, k = environment.shared.newcomer(), expectations.LONGEST_LIST
    answer = fetch(environment, f"/recommendations?user_id={quote(str(who.user_id))}&k={k}")
    return expectations.tracks_of(answer, "recs")


def fetch(environment: Any, path: str) -> Any:
    """Return the JSON of an answer; the request does not count as load."""
    with urlopen((environment.host or HOST).rstrip("/") + path, timeout=10) as response:
        return json.load(response)


@contextmanager
def failing(environment: Any, when: str) -> Iterator[None]:
    """Count an error in the block as a failed request with the name `when`."""
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
