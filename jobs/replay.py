"""Choose how live events are blended into answers, by replaying sessions event by event.

    python -m jobs.replay --work data [--plays 40000]

What a user played after a window's cut is gone through in order. The next play is foreseen by the
user's offline list (without what was played since), by what the events so far bring, and by the
blend of both, just as the service would answer; only then it becomes an event. A hit is a play
among the first 10. Where heard tracks are excluded, a play of one is an event, but isn't foreseen.

The rule and its numbers are chosen on windows/choose, by the mean of hit@10 after 1, 2 and 3 or
more events, and reported on windows/report, beside a control: with each session's events exchanged
for another user's, the blend should know nothing of the session. Makes replay.json, whose
"blending" goes into the release, and report/replay.html. Users with --plays plays together are
drawn (with 30,000 to choose by), and of each the first 30 plays are foreseen.
"""

import matplotlib.pyplot as plt
import msgspec
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from api.blending import Blending
from jobs import command, contract, sessions, settings
from jobs.choice import SEEN, by_seen, choose
from jobs.contract import JobError
from jobs.report import Page
from jobs.sessions import K, Sessions

MOST_CHOOSING = 30_000  # plays


def compare(played: Sessions, rule: Blending) -> dict[str, np.ndarray]:
    """(plays,) bool by list: the hits of each."""
    found = {
        "offline": played.offline_place < K,
        "online": played.hits(rule, alone=True),
        "blend": played.hits(rule, name="replay report"),
    }
    if len(played.tracks) > 1:
        found["exchanged"] = played.exchanged().hits(rule)
    return found


def table_of(hits: dict[str, np.ndarray], at: np.ndarray) -> pd.DataFrame:
    """A row a number of events seen: plays, hit@10 of each list, and ratios to the offline list."""
    seen = np.minimum(at, len(SEEN) - 1)
    plays = np.bincount(seen, minlength=len(SEEN))
    rows = {name: pd.Series(by_seen(hit, at)) for name, hit in hits.items()}
    result = pd.DataFrame({"plays": pd.Series(plays, SEEN)} | rows)[
        lambda table: table["plays"] > 0
    ]
    for name in ("blend", "exchanged"):
        if name in hits:
            result[f"{name} / offline"] = result[name] / result["offline"].where(
                result["offline"] > 0
            )
    return result.rename_axis("events seen").reset_index()


def curve(hits: dict[str, np.ndarray], at: np.ndarray) -> Figure:
    """hit@10 of each list after 0, 1, … events."""
    last = 10
    seen = np.minimum(at, last)
    plays = np.bincount(seen, minlength=last + 1)
    figure, axis = plt.subplots(figsize=(9, 4), layout="constrained")
    for name, hit in hits.items():
        rate = np.bincount(seen, hit, minlength=last + 1) / np.where(plays, plays, np.nan)
        axis.plot(range(last + 1), rate, marker="o", label=name)
    axis.set_xticks(range(last + 1), [*map(str, range(last)), f"{last}+"])
    axis.set_xlabel("events seen")
    axis.set_ylabel("hit@10")
    axis.set_ylim(bottom=0)
    axis.legend(frameon=False)
    return figure


def page(
    rule: Blending, tried: pd.DataFrame, hits: dict[str, np.ndarray], played: Sessions
) -> Page:
    """The report to read."""
    result = Page("Replay of live sessions")
    result.text(
        f"The plays of {len(played.tracks):,} users after the cut of the window 'report' are gone "
        f"through in order, and {len(played):,} of them foreseen from what was known just before: "
        "offline, by the user's final list, continued by the top list, without what was played "
        "since; online, by what the events so far bring, alone; blend, by what the service would "
        "answer; exchanged, by the blend with another user's events, which should know nothing."
    )
    result.figure(curve(hits, played.at), "the next play is among the first 10")
    result.table(table_of(hits, played.at), "hit@10 by the number of events seen")
    if not tried.empty:
        result.text(
            "The rule was chosen on the earlier window 'choose', by the mean of hit@10 after 1, 2 "
            "and 3 or more events; of the weighted rule the best numbers are shown. Weights are of "
            "a neighbour's score, half-lives count events."
        )
        shown = ["hit@10", "rule", "source", "events", "neighbours"]
        result.table(tried[shown], "the rules on 'choose'")
    numbers = pd.Series(msgspec.to_builtins(rule))
    result.table(numbers.rename_axis("chosen").reset_index(name="value"), "the release's blending")
    return result


def main() -> str:
    """Make replay.json and report/replay.html."""
    parser = command.parser(__doc__)
    parser.add_argument("--plays", type=int, default=40_000, help="most plays to replay")
    args = parser.parse_args()
    if args.plays < 1:
        raise JobError(f"--plays is {args.plays}: expected at least 1")
    windows = args.work / "windows"
    heard = settings.load(windows / "choose").heard
    rule, tried = choose(sessions.read(windows / "choose", heard, min(args.plays, MOST_CHOOSING)))
    played = sessions.read(windows / "report", heard, args.plays)
    hits = compare(played, rule)
    table = table_of(hits, played.at)
    content = {
        "blending": msgspec.to_builtins(rule),
        "users": len(played.tracks),
        "report": table.astype(object).where(table.notna(), None).to_dict("records"),
        "choose": tried.astype(object).where(tried.notna(), None).to_dict("records"),
    }
    contract.write_json(args.work / contract.REPLAY, content)
    path = args.work / "report" / "replay.html"
    page(rule, tried, hits, played).write(path)
    shown = ", ".join(
        f"{row['events seen']}: {row['offline']:.3f} -> {row['blend']:.3f}"
        for row in content["report"]
    )
    return f"hit@10 by events seen, offline -> {rule.rule} ({rule.source}): {shown}; see {path}"


if __name__ == "__main__":
    command.run(main)
