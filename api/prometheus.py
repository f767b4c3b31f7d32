"""Metrics for Prometheus: the time of each answer is recorded, all else is read at each scrape.

The application owns the `Metrics` of a process and passes in a function that returns a
`ServiceState`, which holds what the service counts anyway. So this module does not import the
service.
"""

import os
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from api.events.store import JournalState, SharedState

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
OTHER = "other"  # the label of every path that is not a route

# upper bounds of the histogram's buckets, in seconds; most answers take less than 0.5 ms
BUCKETS = (
    0.00005,
    0.0001,
    0.00015,
    0.0002,
    0.0003,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    1,
    5,
)


@dataclass(frozen=True)
class ReleaseState:
    """The release that is served, and its age."""

    id: str
    age_seconds: float


@dataclass(frozen=True)
class ServiceState:
    """The counts of the service since it started, and its present state."""

    personal_answers: int
    default_answers: int
    events: int
    unknown_tracks: int
    evicted_users: int
    users_with_events: int
    swaps: int
    refusals: int
    max_age_seconds: int
    journal: JournalState | None  # None without a journal
    release: ReleaseState | None  # None while no release is served
    shared: SharedState | None = None  # None where events are not in Valkey


class AnswerTimes:
    """A histogram of the times of one route's answers.

    Recording a time takes a tenth of the time that the Prometheus client's own histogram takes.
    """

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)  # the last one: longer than all bounds
        self.seconds = 0.0  # the sum of all times


class Metrics:
    """The metrics of one process.

    Labels are only routes, statuses, kinds and the release. With a label that clients can choose,
    such as a user or any path, the number of time series would have no bound.
    """

    def __init__(self, routes: Sequence[str], read_state: Callable[[], ServiceState]) -> None:
        self._registry = CollectorRegistry()
        self._errors = Counter(
            "reco_errors", "Answers with a status of 400 or more.", ["route", "status"],
            registry=self._registry,
        )  # fmt: skip
        self._times = {route: AnswerTimes() for route in (OTHER, *routes)}
        self._registry.register(_AnswerTimesCollector(self._times))
        self._registry.register(_StateCollector(read_state))
        ProcessCollector(registry=self._registry)

    def record_answer(self, path: str, seconds: float) -> None:
        """Record how long an answer took."""
        times = self._times.get(path) or self._times[OTHER]
        times.counts[bisect_left(BUCKETS, seconds)] += 1
        times.seconds += seconds

    def count_error(self, path: str, status: int) -> None:
        """Count an answer whose status is an error."""
        self._errors.labels(path if path in self._times else OTHER, str(status)).inc()

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)


class _AnswerTimesCollector(Collector):
    """Exports the times of answers, by route."""

    def __init__(self, times: dict[str, AnswerTimes]) -> None:
        self._times = times

    def collect(self) -> Iterator[Metric]:
        """Yield the histogram."""
        what = "Seconds from the head of a request to the end of its answer."
        family = HistogramMetricFamily("reco_request_seconds", what, labels=["route"])
        bounds = [*map(str, BUCKETS), "+Inf"]
        for route, times in self._times.items():
            buckets = [*zip(bounds, accumulate(times.counts), strict=True)]
            family.add_metric([route], buckets, times.seconds)
        yield family


class _StateCollector(Collector):
    """Exports the state of the service."""

    def __init__(self, read_state: Callable[[], ServiceState]) -> None:
        self._read_state = read_state

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics; those of the journal and of the release only if there is one."""
        state = self._read_state()
        what = "The number of the process that answers: several may share a port."
        yield _gauge("process_id", what, os.getpid())
        yield from _counts(state)
        if state.journal:
            yield from _journal(state.journal)
        if state.shared:
            yield from _shared(state.shared)
        yield _gauge(
            "release_max_age_seconds", "RECO_MAX_AGE_HOURS in seconds.", state.max_age_seconds
        )
        yield _gauge(
            "release_served", "1 if a release is served, else 0.", float(state.release is not None)
        )
        if state.release:
            yield from _release(state.release)


def _counts(state: ServiceState) -> Iterator[Metric]:
    answers = CounterMetricFamily(
        "reco_answers", "Lists of /recommendations, by kind: personal or default.", labels=["kind"]
    )
    answers.add_metric(["personal"], state.personal_answers)
    answers.add_metric(["default"], state.default_answers)
    yield answers
    for name, what, value in (
        ("events", "Events stored.", state.events),
        (
            "unknown_tracks",
            "Stored events of tracks that the release does not know.",
            state.unknown_tracks,
        ),
        (
            "evicted_users",
            "Users whose events left memory to make room for others.",
            state.evicted_users,
        ),
        ("swaps", "Releases that were loaded.", state.swaps),
        ("refusals", "Releases that were refused.", state.refusals),
    ):
        yield CounterMetricFamily(f"reco_{name}", what, value)
    what = "Users whose events are in memory."
    yield _gauge("users_with_events", what, state.users_with_events)


def _journal(journal: JournalState) -> Iterator[Metric]:
    yield _gauge("journal_works", "1 if events can be stored, else 0.", float(journal.works))
    what = "Seconds that the running commit has taken so far."
    yield _gauge("journal_lag_seconds", what, journal.lag_seconds)


def _shared(shared: SharedState) -> Iterator[Metric]:
    what = "Answers made with the events that were seen last, since Valkey did not answer."
    yield CounterMetricFamily("reco_stale_answers", what, shared.stale_answers)
    what = "Events in Valkey that the jobs have not exported yet."
    yield _gauge("events_not_exported", what, shared.not_exported)
    what = "1 if Valkey does not show its settings, else 0."
    yield _gauge("events_unverified", what, float(shared.unverified))


def _release(release: ReleaseState) -> Iterator[Metric]:
    yield _gauge("release_age_seconds", "Seconds since the release was made.", release.age_seconds)
    info = GaugeMetricFamily("reco_release", "The release that is served.", labels=["release"])
    info.add_metric([release.id], 1)
    yield info


def _gauge(name: str, what: str, value: float) -> Metric:
    return GaugeMetricFamily(f"reco_{name}", what, value)
