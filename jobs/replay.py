"""Choose how live events are blended into answers, by replaying sessions event by event.

    python -m jobs.replay --work data [--plays 40000]

The plays of a user after a window's cut are a session, which is replayed in order. Before each
play, three lists are made as the service would make them: the user's offline list without the
tracks played since the cut, what the events so far bring ("online"), and the blend of both. The
play is a hit of a list if it is among the first 10. Then it becomes an event. Where heard tracks
are excluded, a play of a heard track becomes an event, but it isn't counted as a hit or a miss.

The rule and its numbers are chosen on windows/validation, by the mean of hit@10 after 1, 2 and 3 or
more events; with fewer than 50 users there, they are the defaults. They are reported on
windows/test, beside a control: the blend with the events of another user, which should have fewer
hits than the offline list.

Makes replay.json, whose "blending" goes into the release, and report/replay.html. Users are drawn
by a hash of their ids until they have --plays plays together (at most 30,000 for choosing the
rule); of each user the first 30 plays are counted.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pandas as pd

from jobs.contract import storage
from jobs.contract.blending import Blending
from jobs.contract.names import REPLAY
from jobs.contract.results import Replay, ReplayedPlays, TriedRule
from jobs.contract.storage import JobError
from jobs.data.bounds import ENOUGH_USERS
from jobs.models import hyperparameters
from jobs.reporting.replay_page import page, table_of
from jobs.runtime import cli, memory, parallel
from jobs.selection import replay_sessions
from jobs.selection.blending_search import choose_blending, users_with_events
from jobs.selection.replay_sessions import K, Sessions

MOST_CHOOSING = 30_000  # plays by which the rule is chosen


def compare(played: Sessions, rule: Blending) -> dict[str, np.ndarray]:
    """Return which plays are hits of each list, (plays,) bool, by list."""
    hits = {
        "offline": played.offline_place < K,
        "online": played.hits(rule, alone=True),
        "blend": played.hits(rule, name="replay report"),
    }
    if len(played.tracks) > 1:
        hits["exchanged"] = played.exchanged().hits(rule)
    return hits


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table as they are written into JSON: None for what is missing."""
    rows: list[dict[str, Any]] = table.astype(object).where(table.notna(), None).to_dict("records")
    return rows


def main(argv: Sequence[str]) -> str:
    """Make replay.json and report/replay.html."""
    parser = cli.parser(__doc__)
    parser.add_argument("--plays", type=int, default=40_000, help="replay at most this many plays")
    args = parser.parse_args(argv)
    parallel.set_threads(memory.check("replay", args))
    if args.plays < 1:
        raise JobError(f"--plays is {args.plays}: expected at least 1")
    windows = args.work / "windows"
    heard = hyperparameters.load(windows / "validation").heard
    known = replay_sessions.read(windows / "validation", heard, min(args.plays, MOST_CHOOSING))
    rule, tried = choose_blending(known)
    users = users_with_events(known)
    played = replay_sessions.read(windows / "test", heard, args.plays)
    hits = compare(played, rule)
    content = Replay(
        blending=rule,
        users=len(played.tracks),
        test=msgspec.convert(records(table_of(hits, played.at)), list[ReplayedPlays]),
        validation=msgspec.convert(records(tried), list[TriedRule]),
    )
    storage.write_json(args.work / REPLAY, content)
    path = args.work / "report" / "replay.html"
    page(rule, tried, hits, played).write(path)
    shown = ", ".join(
        f"{plays.events_seen}: {plays.offline:.3f} -> {plays.blend:.3f}" for plays in content.test
    )
    name = f"{rule.rule} ({', '.join(rule.sources)})"
    if users < ENOUGH_USERS:
        name += f", the default, since {users:,} users with events are too few to choose by"
    return f"hit@10 by events seen, offline -> {name}: {shown}; see {path}"


if __name__ == "__main__":
    cli.run(main)
