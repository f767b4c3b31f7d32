"""The page that shows what live events bring, by the replay of sessions."""

import matplotlib.pyplot as plt
import msgspec
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from jobs.contract.blending import Blending
from jobs.reporting.page import Page
from jobs.selection.blending_search import SEEN, by_seen
from jobs.selection.replay_sessions import Sessions


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
        f"The plays of {len(played.tracks):,} users after the cut of the window 'test' are gone "
        f"through in order, and {len(played):,} of them foreseen from what was known just before: "
        "offline, by the user's final list, continued by the top list, without what was played "
        "since; online, by what the events so far bring, alone; blend, by what the service would "
        "answer; exchanged, by the blend with another user's events, which should know nothing."
    )
    result.figure(curve(hits, played.at), "the next play is among the first 10")
    result.table(table_of(hits, played.at), "hit@10 by the number of events seen")
    if not tried.empty:
        result.text(
            "The rule was chosen on the earlier window 'validation', by the mean of hit@10 after "
            "1, 2 and 3 or more events; of the weighted rule the best numbers are shown. Weights "
            "are of a neighbour's score, half-lives count events."
        )
        shown = ["hit@10", "rule", "sources", "events", "neighbours"]
        rules = tried[shown].assign(sources=tried["sources"].map(", ".join))
        result.table(rules, "the rules on 'validation'")
    numbers = pd.Series(msgspec.to_builtins(rule) | {"sources": ", ".join(rule.sources)})
    result.table(numbers.rename_axis("chosen").reset_index(name="value"), "the release's blending")
    return result
