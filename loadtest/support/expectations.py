"""What the service must answer, as far as a release and a user's own calls tell.

Each rule raises a Violation with its reason; the calls themselves are the locustfile's.
"""

import json
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

MAX_ID = 2**53 - 1
LONGEST_LIST = 1000  # the largest k of /recommendations
EVENTS_KEPT = 100  # of a user, by the service's default
KINDS = ("personal", "default")  # of an answer of /recommendations, as the statistics count them


class Violation(Exception):
    """A rule that an answer breaks."""


@dataclass
class Visitor:
    """A user as the test knows them; final is None where list and history are unknown."""

    user_id: int
    final: list[int] | None = field(default_factory=list)
    heard: frozenset[int] = frozenset()
    events: deque[int] = field(default_factory=lambda: deque(maxlen=EVENTS_KEPT))  # newest first

    @property
    def kind(self) -> str:
        """How the statistics count the user's recommendations."""
        return "default" if self.final == [] else "personal"


@dataclass
class World:
    """What the service should know: the top list, tracks to listen to, users with a list."""

    top: list[int]
    tracks: list[int]
    known: list[Visitor]
    excludes_heard: bool = True
    release: str | None = None

    @property
    def is_large(self) -> bool:
        """Whether there are tracks for the longest list at least."""
        return len(self.top) >= LONGEST_LIST

    def kept_out(self, who: Visitor) -> set[int]:
        """The tracks that must not come; of a release that includes heard ones, the last event."""
        return {*who.heard, *who.events} if self.excludes_heard else {*islice(who.events, 1)}

    def offline(self, who: Visitor, k: int) -> list[int]:
        """The first k tracks of the user's list and then the top list; no track twice."""
        given = self.kept_out(who)
        return list(islice(_fresh(chain(who.final or [], self.top), given), k))


def _fresh(tracks: Iterator[int], given: set[int]) -> Iterator[int]:
    for track in tracks:
        if track not in given:
            given.add(track)
            yield track


def from_release(folder: Path, sample: int) -> World:
    """Read a release, and the lists and histories of about `sample` users of it."""
    manifest = json.loads((folder / "manifest.json").read_text())
    top = pq.read_table(folder / "top_popular.parquet", columns=["track_id"])["track_id"]
    items = pq.read_table(folder / "items.parquet", columns=["track_id"])["track_id"].to_numpy()
    users = pq.read_table(folder / "users.parquet", columns=["user_id"])["user_id"].to_numpy()
    start = max(0, len(users) - sample) // 2
    users = users[start : start + sample]  # side by side, so that few row groups are read
    final = _of_users(folder / "recommendations.parquet", users)
    heard = _of_users(folder / "listens.parquet", users)
    return World(
        top=top.to_pylist(),
        tracks=items[:: -(-len(items) // 10_000)].tolist(),
        known=[Visitor(u, final[u], frozenset(heard.get(u, []))) for u in sorted(final)],
        excludes_heard=manifest["settings"]["heard"] != "include",
        release=manifest["id"],
    )


def _of_users(path: Path, users: np.ndarray) -> dict[int, list[int]]:
    """The tracks of each user between the first and the last of `users`, in file order."""
    if len(users) == 0:
        return {}
    between = [("user_id", ">=", users[0]), ("user_id", "<=", users[-1])]
    table = pq.read_table(path, columns=["user_id", "track_id"], filters=between)
    ids, starts = np.unique(table["user_id"].to_numpy(), return_index=True)
    lists = np.split(table["track_id"].to_numpy(), starts[1:])
    return {user: tracks.tolist() for user, tracks in zip(ids.tolist(), lists, strict=True)}


def recommendations(answer: Any, world: World, who: Visitor, k: int) -> None:
    """Exactly k tracks, none twice, none heard; without events just the offline list."""
    recs = tracks_of(answer, "recs")
    expected = world.offline(who, k)
    known = who.final is not None
    _no_repeats(recs)
    _none_of(recs, world.kept_out(who))
    if len(recs) > k or ((known or world.is_large) and len(recs) < len(expected)):
        raise Violation("not exactly k tracks")
    if known and not who.events and recs != expected:
        raise Violation(f"no events, but not {'their own' if who.final else 'the top'} list")


def batch(answer: Any, world: World, who: list[Visitor], k: int) -> None:
    """A list for each user, as if they had asked alone."""
    lists = answer.get("recs") if isinstance(answer, dict) else None
    if not isinstance(lists, list) or len(lists) != len(who):
        raise Violation("not a list for each user")
    for recs, one in zip(lists, who, strict=True):
        recommendations({"recs": recs}, world, one, k)


def without_reasons(answer: Any, who: Visitor) -> Any:
    """The answer as it would be without explain; each track has a reason, by the user's events."""
    recs, reasons = (answer or {}).get("recs"), (answer or {}).get("reasons")
    if not isinstance(reasons, list) or [reason.get("track_id") for reason in reasons] != recs:
        raise Violation("not a reason for each track")
    if not {e for reason in reasons for e in reason["events"]}.issubset(who.events):
        raise Violation("an event that is none of the user's explains a track")
    return {"recs": recs}


def online(answer: Any, world: World, who: Visitor, k: int, n: int) -> None:
    """At most k * n tracks near the last k events, none twice, none heard; [] without events."""
    recs = tracks_of(answer, "recs")
    _no_repeats(recs)
    _none_of(recs, world.kept_out(who))
    if len(recs) > n * min(k, len(who.events)):
        raise Violation("more than N tracks for each event")


def user_events(answer: Any, who: Visitor, k: int) -> None:
    """The last k events, newest first."""
    found, expected = tracks_of(answer, "events"), list(islice(who.events, k))
    if found == expected:
        return
    if found and found in (expected[::-1], list(who.events)[::-1][:k]):
        raise Violation("events come oldest first")
    raise Violation("events are not those that were put")


def any_events(answer: Any) -> None:
    """Events of a user of whom nothing is known yet."""
    tracks_of(answer, "events")


def stored(answer: Any) -> None:
    """The event was taken."""
    if answer != {"result": "ok"}:
        raise Violation('not {"result": "ok"}')


def statistics(answer: Any, low: dict[str, int], high: dict[str, float]) -> None:
    """Each count is between what was surely answered and what may have been."""
    counts = counts_of(answer)
    if not all(low[kind] <= counts[kind] <= high[kind] for kind in KINDS):
        raise Violation("statistics don't add up")


def counts_of(answer: Any) -> dict[str, int]:
    """The counts of an answer of /get_statistics, by kind."""
    names = {kind: f"request_{kind}_count" for kind in KINDS}
    if not isinstance(answer, dict) or sorted(answer) != sorted(names.values()):
        raise Violation(f"not the counts {', '.join(names.values())}")
    if not all(type(count) is int for count in answer.values()):
        raise Violation("counts are not whole numbers")
    return {kind: answer[name] for kind, name in names.items()}


def tracks_of(answer: Any, name: str) -> list[int]:
    """The track ids of an answer that holds nothing else."""
    found = answer.get(name) if isinstance(answer, dict) and len(answer) == 1 else None
    if not isinstance(found, list) or not all(type(track) is int for track in found):
        raise Violation(f'not {{"{name}": [track ids]}}')
    return found


def _no_repeats(recs: list[int]) -> None:
    if len(set(recs)) < len(recs):
        raise Violation("a track stands twice")


def _none_of(recs: list[int], kept_out: set[int]) -> None:
    if kept_out.intersection(recs):
        raise Violation("a track that the user has heard comes back")
