"""What /metrics tells Prometheus: each answer's time is noted, all else is read when asked for."""

from bisect import bisect_left
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from api.service import Service

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4


OTHER = "other"  # a path that is no route


SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)


class Times:
    """How long answers took: how many up to each of SECONDS, and all together.

    Prometheus' own histogram takes ten times as long to note one.
    """

    def __init__(self) -> None:
        self.counts = [0] * (len(SECONDS) + 1)
        self.seconds = 0.0

    def note(self, seconds: float) -> None:
        """Note an answer."""
        self.counts[bisect_left(SECONDS, seconds)] += 1
        self.seconds += seconds


class Metrics:
    """The metrics of one service; labels are routes, statuses, kinds and the release only."""

    def __init__(self, service: "Service") -> None:
        self._registry = CollectorRegistry()
        self._errors = Counter(
            "reco_errors", "Answers with a status of 400 or more.", ["route", "status"],
            registry=self._registry,
        )  # fmt: skip
        self._times = {OTHER: Times()}
        self._registry.register(_Latency(self._times))
        self._registry.register(_State(service))
        ProcessCollector(registry=self._registry)

    def know(self, routes: list[str]) -> None:
        """Tell these routes apart; all others count as one."""
        self._times.update((route, Times()) for route in routes)

    def answered(self, path: str, seconds: float) -> None:
        """Note an answer."""
        (self._times.get(path) or self._times[OTHER]).note(seconds)

    def failed(self, path: str, status: int) -> None:
        """Count an answer that is an error."""
        self._errors.labels(path if path in self._times else OTHER, str(status)).inc()

    def text(self) -> bytes:
        """All of them, as Prometheus reads them."""
        return generate_latest(self._registry)


class _Latency(Collector):
    """The time of answers, by route."""

    def __init__(self, times: dict[str, Times]) -> None:
        self._times = times

    def collect(self) -> Iterator[Metric]:
        """Read it."""
        what = "From a request's head to its answer's end."
        family = HistogramMetricFamily("reco_request_seconds", what, labels=["route"])
        bounds = [*map(str, SECONDS), "+Inf"]
        for route, times in self._times.items():
            buckets = [*zip(bounds, accumulate(times.counts), strict=True)]
            family.add_metric([route], buckets, times.seconds)
        yield family


class _State(Collector):
    """What the service counts anyway, and how it stands."""

    def __init__(self, service: "Service") -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        """Read it."""
        yield from self._counts()
        yield from self._journal()
        yield from self._release()

    def _counts(self) -> Iterator[Metric]:
        service, counters = self._service, self._service.counters
        answers = CounterMetricFamily(
            "reco_answers", "Answers of /recommendations, by their offline list.", labels=["kind"]
        )
        answers.add_metric(["personal"], counters.personal)
        answers.add_metric(["default"], counters.default)
        yield answers
        for name, what, value in (
            ("events", "Events taken in.", counters.events),
            ("unknown_tracks", "Those of a track that the release lacks.", counters.unknown_tracks),
            ("evicted_users", "Users whose events left memory.", service.events.evictions),
            ("swaps", "Releases that were taken.", counters.swaps),
            ("refusals", "Releases that were refused.", counters.refusals),
        ):
            yield CounterMetricFamily(f"reco_{name}", what, value)
        yield _gauge("users_with_events", "Users whose events are in memory.", service.events.users)

    def _journal(self) -> Iterator[Metric]:
        recorder = self._service.recorder
        if recorder:
            works = float(recorder.problem is None)
            yield _gauge("journal_works", "1 where events can be stored.", works)
            waits = "Seconds that a commit has been going on."
            yield _gauge("journal_lag_seconds", waits, recorder.lag)

    def _release(self) -> Iterator[Metric]:
        most = self._service.settings.max_age_hours * 3600
        yield _gauge("release_max_age_seconds", "RECO_MAX_AGE_HOURS.", most)
        yield _gauge("release_served", "1 where there is one.", float(self._service.serves))
        if self._service.serves:
            catalog = self._service.current().catalog
            age = (datetime.now(UTC) - catalog.created_at).total_seconds()
            yield _gauge("release_age_seconds", "Since the release was made.", age)
            info = GaugeMetricFamily("reco_release", "What is served.", labels=["release"])
            info.add_metric([catalog.id], 1)
            yield info


def _gauge(name: str, what: str, value: float) -> Metric:
    return GaugeMetricFamily(f"reco_{name}", what, value)


class Counters:
    """What happened since the start; answers of /recommendations by their offline list."""

    def __init__(self) -> None:
        self.personal = 0
        self.default = 0
        self.events = 0  # taken in
        self.unknown_tracks = 0  # of these, those of a track that the release lacks
        self.swaps = 0  # releases that were taken
        self.refusals = 0  # and refused

    def count(self, personal: bool) -> None:
        """Count one answer."""
        if personal:
            self.personal += 1
        else:
            self.default += 1
