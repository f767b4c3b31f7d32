"""The requests of the benchmark, by workload, for the current release of a folder."""

import random
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote

import numpy as np

USERS = 2000  # of a workload, at most
USERS_WITH_EVENTS = 400  # users who read their lists again without a new event
MANY_USERS = 500_000  # with so many no user is asked twice in a benchmark
EVENTS = 10  # of each user who has any
LENGTHS = range(61, 101)  # of lists: a list of another length is not remembered
NEW_IDS = 2**52  # the release has no user from this id on
IN_TURN = "personal, users in turn"
PUT_AND_READ = "put, then read"
FRESH = "10 events, fresh"
PERSONAL = "personal, again"
AGAIN = "10 events, again"
COLD = "cold"
ONLINE = "get_online_u2i"
PUT = "put_user_event"
MIX = "mix"
SEED = 20


def _ids(arrays: Path, name: str) -> list[int | str]:
    """Return the ids of a release's users or tracks: whole numbers, or texts if it has these."""
    keys = arrays / f"{name}_keys_items.npy"
    if not keys.exists():
        numbers: list[int | str] = np.load(arrays / f"{name}_ids.npy", mmap_mode="r").tolist()
        return numbers
    text, ends = np.load(keys).tobytes(), np.load(arrays / f"{name}_keys_offsets.npy").tolist()
    return [quote(text[a:b]) for a, b in pairwise(ends)]


def _put(user: int | str, track: int | str) -> str:
    return f"POST /put_user_event?user_id={user}&item_id={track}"


def _read(user: int | str, k: int = 100) -> str:
    return f"GET /recommendations?user_id={user}" + (f"&k={k}" if k != 100 else "")


def _online(user: int | str) -> str:
    return f"GET /get_online_u2i?user_id={user}"


def workloads(work: Path) -> tuple[list[str], dict[str, list[str]]]:
    """Return the requests to send once before the benchmark, and those of each workload by name.

    Workloads come first whose answers have not been given before.
    """
    arrays = work / "current" / "serving"
    users, tracks = (_ids(arrays, name) for name in ("user", "track"))
    rng = random.Random(SEED)
    many = rng.sample(users, min(MANY_USERS, len(users)))
    drawn = many[: 3 * USERS]
    # Three groups: users without events, with events, and users who put an event before each read.
    without_events, with_events, putting = (drawn[i::3] or drawn for i in range(3))
    with_events = with_events[:USERS_WITH_EVENTS]

    def any_track() -> int | str:
        return tracks[rng.randrange(len(tracks))]

    before = [_put(user, any_track()) for user in (*with_events, *putting) for _ in range(EVENTS)]
    result = {
        IN_TURN: [_read(user) for user in many[len(drawn) :] or many],
        PUT_AND_READ: [line for user in putting for line in (_put(user, any_track()), _read(user))],
        FRESH: [_read(user, k) for k in LENGTHS for user in with_events],
        PERSONAL: [_read(user) for user in without_events],
        AGAIN: [_read(user) for user in with_events],
        COLD: [_read(NEW_IDS + i) for i in range(USERS)],
        ONLINE: [_online(user) for user in with_events],
        PUT: [_put(NEW_IDS + USERS + i, any_track()) for i in range(USERS)],
    }
    result[MIX] = _mix(result, rng)
    return before, result


def _mix(lines: dict[str, list[str]], rng: random.Random) -> list[str]:
    """Return a shuffled mix: 40 % personal, 20 % cold, 10 % online, 30 % an event and then a read.

    An event and the read after it stay together and count once.
    """
    parts = {PERSONAL: 4, COLD: 2, ONLINE: 1}
    groups = [[line] for name, n in parts.items() for line in rng.choices(lines[name], k=n * 200)]
    pairs = lines[PUT_AND_READ][:600]
    groups += [pairs[i : i + 2] for i in range(0, len(pairs), 2)]
    rng.shuffle(groups)
    return [line for group in groups for line in group]
