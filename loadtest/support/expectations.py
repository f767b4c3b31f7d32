"""What the service must answer, as far as it follows from a release and a user's own calls.

Each rule checks an answer and raises a Violation with the reason if it is wrong. The requests are
sent by locustfile.py.
"""

import json
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

MAX_ID = 2**53 - 1
LONGEST_LIST = 1000  # the largest k of /recommendations
Id = int | str  # of a user or a track: a whole number or text, as the release has it
EVENTS_KEPT = 100  # events of a user that the service keeps by default
KINDS = ("personal", "default")  # of answers of /recommendations, as /get_statistics counts them


class Violation(Exception):
    """An answer breaks a rule; the text says which."""


@dataclass
class Visitor:
    """A user as the test knows them; final is None if list and history are unknown."""

    user_id: Id
    final: list[Id] | None = field(default_factory=list)
    heard: frozenset[Id] = frozenset()
    events: deque[Id] = field(default_factory=lambda: deque(maxlen=EVENTS_KEPT))  # newest first

    @property
    def kind(self) -> str:
        """Return the kind as which /get_statistics counts the user's recommendations."""
        return "default" if self.final == [] else "personal"


@dataclass
class World:
    """What the service should know: the top list, tracks to play, users with a list."""

    top: list[Id]
    tracks: list[Id]
    known: list[Visitor]
    excludes_heard: bool = True
    release: str | None = None
    text_users: bool = False  # whether ids of users are text
    text_tracks: bool = False
    # of tracks that are one song with another: under which id the song is shown
    shown: dict[Id, Id] = field(default_factory=dict)

    @property
    def is_large(self) -> bool:
        """Return whether there are enough tracks for the longest list."""
        return len(self.top) >= LONGEST_LIST

    def kept_out(self, who: Visitor) -> set[Id]:
        """Return the tracks that must not be recommended.

        These are all heard ones, or only the last event in a release that includes heard tracks.
        A song that was heard under another id is heard.
        """
        out = {*who.heard, *who.events} if self.excludes_heard else {*islice(who.events, 1)}
        return out | {self.shown[track] for track in out if track in self.shown}

    def offline(self, who: Visitor, k: int) -> list[Id]:
        """Return the first k tracks of the user's list and then the top list, no track twice."""
        return list(islice(_without(self.kept_out(who), chain(who.final or [], self.top)), k))

    def fewest(self, who: Visitor, k: int) -> int:
        """Return how many of k tracks there must be.

        A release that includes heard tracks keeps out some of the last events, by a setting that
        the test does not know; so only tracks that are none of the events are certain.
        """
        kept_out = self.kept_out(who) | {*who.events}
        return len(list(islice(_without(kept_out, chain(who.final or [], self.top)), k)))


def _without(kept_out: set[Id], tracks: Iterator[Id]) -> Iterator[Id]:
    """Yield each track once, unless it is kept out."""
    seen = {*kept_out}
    for track in tracks:
        if track not in seen:
            seen.add(track)
            yield track


def from_release(folder: Path, sample: int) -> World:
    """Read a release, and the lists and histories of about `sample` users of it."""
    manifest = json.loads((folder / "manifest.json").read_text())
    top = pq.read_table(folder / "top_popular.parquet", columns=["track_id"])["track_id"]
    items = pq.read_table(folder / "items.parquet", columns=["track_id"])["track_id"].to_pylist()
    users = pq.read_table(folder / "users.parquet", columns=["user_id"])["user_id"].to_pylist()
    kinds = manifest.get("ids", {})
    start = max(0, len(users) - sample) // 2
    users = users[start : start + sample]  # neighbours, so that few row groups are read
    final = _of_users(folder / "recommendations.parquet", users)
    heard = _of_users(folder / "listens.parquet", users)
    return World(
        top=top.to_pylist(),
        tracks=items[:: -(-len(items) // 10_000)],
        known=[Visitor(u, final[u], frozenset(heard.get(u, []))) for u in sorted(final)],
        excludes_heard=manifest["settings"]["heard"] != "include",
        release=manifest["id"],
        text_users=kinds.get("users") == "text",
        text_tracks=kinds.get("tracks") == "text",
        shown=_shown(folder / "serving"),
    )


def _shown(arrays: Path) -> dict[Id, Id]:
    """Return under which id the song of a track is shown, for tracks that are not shown."""
    if not (arrays / "shown_items.npy").exists():
        return {}
    ids: list[Id] = np.load(arrays / "track_ids.npy").tolist()
    if (arrays / "track_keys_items.npy").exists():
        text: bytes = np.load(arrays / "track_keys_items.npy").tobytes()
        ends = np.load(arrays / "track_keys_offsets.npy").tolist()
        ids = [text[start:end].decode() for start, end in pairwise(ends)]
    places = np.load(arrays / "shown_items.npy").tolist()
    return {ids[at]: ids[place] for at, place in enumerate(places) if place != at}


def _of_users(path: Path, users: list[Id]) -> dict[Id, list[Id]]:
    """Return the tracks of each of the users, who are neighbours in the file, in file order."""
    if not users:
        return {}
    if isinstance(users[0], str):  # texts are in no order by which row groups could be left out
        filters: Any = [("user_id", "in", users)]
    else:
        filters = [("user_id", ">=", users[0]), ("user_id", "<=", users[-1])]
    table = pq.read_table(path, columns=["user_id", "track_id"], filters=filters)
    result: dict[Id, list[Id]] = {}
    for user, track in zip(*(column.to_pylist() for column in table.columns), strict=True):
        result.setdefault(user, []).append(track)
    return result


def recommendations(answer: Any, world: World, who: Visitor, k: int) -> None:
    """Check for exactly k tracks, none twice, none heard; without events, for the offline list."""
    recs = tracks_of(answer, "recs", world.text_tracks)
    expected = world.offline(who, k)
    known = who.final is not None
    _no_repeats(recs)
    _none_of(recs, world.kept_out(who))
    if len(recs) > k or ((known or world.is_large) and len(recs) < world.fewest(who, k)):
        raise Violation("not exactly k tracks")
    if known and not who.events and recs != expected:
        name = "the user's own" if who.final else "the top"
        raise Violation(f"no events, but not {name} list")


def batch(answer: Any, world: World, who: list[Visitor], k: int) -> None:
    """Check the list of each user by the rules of a single request."""
    lists = answer.get("recs") if isinstance(answer, dict) else None
    if not isinstance(lists, list) or len(lists) != len(who):
        raise Violation("not exactly one list for each user")
    for recs, one in zip(lists, who, strict=True):
        recommendations({"recs": recs}, world, one, k)


def without_reasons(answer: Any, who: Visitor) -> Any:
    """Return the answer as it would be without explain. Raises Violation if a reason is wrong."""
    recs, reasons = (answer or {}).get("recs"), (answer or {}).get("reasons")
    if not isinstance(reasons, list) or [reason.get("track_id") for reason in reasons] != recs:
        raise Violation("not exactly one reason for each track")
    if not {e for reason in reasons for e in reason["events"]}.issubset(who.events):
        raise Violation("a reason names an event that the user does not have")
    return {"recs": recs}


def online(answer: Any, world: World, who: Visitor, k: int, n: int) -> None:
    """Check for at most n tracks for each of the last k events, none twice, none heard."""
    recs = tracks_of(answer, "recs", world.text_tracks)
    _no_repeats(recs)
    _none_of(recs, world.kept_out(who))
    if len(recs) > n * min(k, len(who.events)):
        raise Violation("more than N tracks for each event")


def user_events(answer: Any, who: Visitor, k: int) -> None:
    """Check for the last k events, newest first."""
    found, expected = tracks_of(answer, "events"), list(islice(who.events, k))
    if found == expected:
        return
    if found and found in (expected[::-1], list(who.events)[::-1][:k]):
        raise Violation("events are in order from the oldest")
    raise Violation("events differ from those that were put")


def any_events(answer: Any) -> None:
    """Check for a list of events, of a user whose events are not known yet."""
    tracks_of(answer, "events")


def stored(answer: Any) -> None:
    """Check that the event was stored."""
    if answer != {"result": "ok"}:
        raise Violation('not {"result": "ok"}')


def statistics(answer: Any, low: dict[str, int], high: dict[str, float]) -> None:
    """Check that each count is from `low`, what was answered, to `high`, what was sent."""
    counts = counts_of(answer)
    if not all(low[kind] <= counts[kind] <= high[kind] for kind in KINDS):
        raise Violation("counts differ from the number of requests")


def counts_of(answer: Any) -> dict[str, int]:
    """Return the counts of an answer of /get_statistics, by kind."""
    names = {kind: f"request_{kind}_count" for kind in KINDS}
    if not isinstance(answer, dict) or sorted(answer) != sorted(names.values()):
        raise Violation(f"the keys are not exactly {', '.join(names.values())}")
    if not all(type(count) is int for count in answer.values()):
        raise Violation("counts are not whole numbers")
    return {kind: answer[name] for kind, name in names.items()}


def tracks_of(answer: Any, name: str, text: bool | None = None) -> list[Id]:
    """Return the track ids of an answer whose only key is `name`. Raises Violation for others.

    They are text or whole numbers, as `text` says, or all of one kind.
    """
    found = answer.get(name) if isinstance(answer, dict) and len(answer) == 1 else None
    allowed = [{int}, {str}] if text is None else [{str}] if text else [{int}]
    if not isinstance(found, list) or (found and {*map(type, found)} not in allowed):
        raise Violation(f'not {{"{name}": [track ids]}}')
    return found


def _no_repeats(recs: list[Id]) -> None:
    if len(set(recs)) < len(recs):
        raise Violation("a track is in the list twice")


def _none_of(recs: list[Id], kept_out: set[Id]) -> None:
    if kept_out.intersection(recs):
        raise Violation("a track that the user has heard is in the list")
