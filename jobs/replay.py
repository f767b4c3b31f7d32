"""Choose how live events are blended into answers, by replaying sessions event by event.

    python -m jobs.replay --work data [--plays 40000]

The plays of a user after a window's cut are a session, which is replayed in order. Before each
play, three lists are made as the service would make them: the user's offline list without the
tracks played since the cut, what the events so far bring ("online"), and the blend of both. The
play is a hit of a list if it is among the first 10. Then it becomes an event. Where heard tracks
are excluded, a play of a heard track becomes an event, but it isn't counted as a hit or a miss.

The rule and its numbers are chosen on windows/validation, by the mean of hit@10 after 1, 2 and 3 or
more events; with fewer than 50 users there, they are the defaults. A blend is served unless all
blends are surely worse than the offline list. The fewer users there are to judge by, the more the
offline list counts (see jobs.selection.blending_choice). The chosen rule is then measured on
windows/test, beside a control: the blend with the events of another user, which should have fewer
hits than the offline list.

Makes replay.json, whose "blending" goes into the release, and report/replay.html. Users are drawn
by a hash of their ids until they have --plays plays together (at most 30,000 for choosing the
rule); of each user the first 30 plays are counted.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from msgspec import UNSET

from jobs.contract import compiling, storage
from jobs.contract.blending import Blending
from jobs.contract.names import REPLAY
from jobs.contract.results import Gain, Replay, ReplayedPlays
from jobs.contract.storage import JobError
from jobs.models import hyperparameters
from jobs.reporting.replay_page import page
from jobs.runtime import cli, memory, parallel
from jobs.selection import replay_sessions
from jobs.selection.blending_choice import Choice, choose_blending
from jobs.selection.hit_rates import (
    AFTER_EVENTS,
    EVENTS_SEEN,
    drawn_gains,
    drawn_rates,
    gain_of,
    groups_of,
    hit_rates,
)
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


class Measured(NamedTuple):
    """What the plays of the window "test" show, as it stands in replay.json."""

    test: list[ReplayedPlays]
    gains: dict[str, Gain]
    over_control: Gain | None


def measure(hits: dict[str, np.ndarray], at: np.ndarray, session: np.ndarray) -> Measured:
    """Return hit@10 of each list by the number of events seen, with gains over the offline list.

    hits (plays,) bool by list; at (plays,) are the numbers of events before the plays, session
    (plays,) their users.
    """
    drawn = drawn_rates(hits, at, session)
    rates = {name: hit_rates(hit, at) for name, hit in hits.items()}

    def gain(ours: str, theirs: str, groups: Sequence[str]) -> Gain:
        found = [group for group in groups if group in rates[ours]]
        value = np.mean([rates[ours][group] - rates[theirs][group] for group in found])
        return gain_of(float(value), drawn_gains(drawn[ours], drawn[theirs], found))

    others = [name for name in hits if name != "offline"]
    plays = np.bincount(groups_of(at), minlength=len(EVENTS_SEEN))
    rows = [
        replayed_plays(
            seen,
            int(plays[EVENTS_SEEN.index(seen)]),
            {name: rates[name][seen] for name in hits},
            {name: gain(name, "offline", [seen]) for name in others},
        )
        for seen in rates["offline"]
    ]
    if not (at > 0).any():
        return Measured(rows, {}, None)
    control = gain("blend", "exchanged", AFTER_EVENTS) if "exchanged" in hits else None
    return Measured(rows, {name: gain(name, "offline", AFTER_EVENTS) for name in others}, control)


def replayed_plays(
    seen: str, plays: int, rates: dict[str, float], gains: dict[str, Gain]
) -> ReplayedPlays:
    """Return the row of plays with the same number of events before them."""
    ratios = {
        name: rate / rates["offline"] if rates["offline"] else None for name, rate in rates.items()
    }
    return ReplayedPlays(
        events_seen=seen,
        plays=plays,
        **rates,
        blend_ratio=ratios["blend"],
        exchanged_ratio=ratios.get("exchanged", UNSET),
        gains=gains,
    )


def summary(choice: Choice) -> str:
    """Return what was chosen, and why if that is not because it was best."""
    rule, why = choice.blending, choice.why
    name = rule.rule if rule.rule == "offline" else f"{rule.rule} ({', '.join(rule.sources)})"
    ends = {
        "few users": f", the default, since {why.users:,} users with events are too few to "
        "choose by",
        "worse": ", since every blend was surely worse",
        "cautious": ", nearer to offline than the best one, which is not clearly better",
        "best": "",
    }
    return name + ends[why.reason]


def main(argv: Sequence[str]) -> str:
    """Make replay.json and report/replay.html."""
    parser = cli.parser(__doc__)
    parser.add_argument("--plays", type=int, default=40_000, help="replay at most this many plays")
    args = parser.parse_args(argv)
    parallel.set_threads(memory.check("replay", args))
    compiling.set_by_size(args.work)
    if args.plays < 1:
        raise JobError(f"--plays is {args.plays}: expected at least 1")
    windows = args.work / "windows"
    heard = hyperparameters.load(windows / "validation").heard
    known = replay_sessions.read(windows / "validation", heard, min(args.plays, MOST_CHOOSING))
    choice = choose_blending(known)
    played = replay_sessions.read(windows / "test", heard, args.plays)
    hits = compare(played, choice.blending)
    content = Replay(
        blending=choice.blending,
        users=len(played.tracks),
        choice=choice.why,
        **measure(hits, played.at, played.session)._asdict(),
        validation=choice.tried,
    )
    storage.write_json(args.work / REPLAY, content)
    path = args.work / "report" / "replay.html"
    page(content, hits, played.at).write(path)
    shown = ", ".join(
        f"{plays.events_seen}: {plays.offline:.3f} -> {plays.blend:.3f}" for plays in content.test
    )
    return f"hit@10 by events seen, offline -> {summary(choice)}: {shown}; see {path}"


if __name__ == "__main__":
    cli.run(main)
