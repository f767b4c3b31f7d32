"""The page of the replay: what live events bring to the recommendations."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import msgspec
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from jobs.contract.blending import Blending
from jobs.contract.results import BlendingChoice, Replay, ReplayedPlays
from jobs.reporting import replay_text
from jobs.reporting.page import WIDTH, Interval, Page
from jobs.reporting.replay_text import blend_name, interval, signed

LAST_SHOWN = 10  # events in the curve; plays after more events are counted here as well
LISTS = {  # by key of the hits: the name of the list, and what it is
    "offline": (
        "offline",
        "The user's final list, continued by the top list, without the tracks played since.",
    ),
    "online": ("online", "What the events alone bring."),
    "blend": ("blend", "What the service answers: both, by the rule below."),
    "exchanged": (
        "blend, others' events",
        "The blend with the events of another user, as a control: it should be worse than offline.",
    ),
}


SETTINGS = {  # of the rule, by name: what it means
    "rule": "how the online and the offline list are combined",
    "sources": "what brings the tracks of the online list",
    "events": "number of last events that are used",
    "neighbours": "number of neighbours of each event",
    "half_life": "number of events after which an event counts half",
    "similar_weight": "weight of similar tracks",
    "next_played_weight": "weight of the tracks played next",
    "fold_in_weight": "weight of the fit to the taste by the events",
    "score_exponent": "exponent of a neighbour's score",
    "offline_half_life": "number of events after which the offline list counts half",
    "offline_half_place": "place at which a track of the offline list counts half",
}


STYLES: dict[str, dict[str, Any]] = {  # they differ in more than colour, and in where markers stand
    "offline": {"color": "#8a94a6", "lw": 5, "alpha": 0.6, "marker": "s", "ms": 7},
    "online": {"color": "#2a9d5c", "lw": 1.5, "ls": "--", "marker": "^", "ms": 5},
    "blend": {"color": "#1f77b4", "lw": 1.8, "marker": "o", "ms": 5},
    "exchanged": {"color": "#e07b00", "lw": 1.5, "ls": ":", "marker": "x", "ms": 5},
}
APART = 0.12  # events between the markers of two lists, so that they don't hide each other
LABEL_ROOM = 4.2  # events to the right of the last one


def curve(hits: dict[str, np.ndarray], at: np.ndarray) -> Figure:
    """Return a plot of hit@10 of each list after 0, 1, … events, with the lists' names beside it.

    hits (plays,) bool by list; at (plays,) are the numbers of events before the plays.
    """
    seen = np.minimum(at, LAST_SHOWN)
    plays = np.bincount(seen, minlength=LAST_SHOWN + 1)
    shown = np.flatnonzero(plays)
    figure, axis = plt.subplots(figsize=(WIDTH, 3.6), layout="constrained")
    rates = {
        name: np.bincount(seen, hit, minlength=LAST_SHOWN + 1)[shown] / plays[shown]
        for name, hit in hits.items()
    }
    top = max([rate.max() for rate in rates.values() if len(rate)], default=0.0) or 1.0
    ends = [rate[-1] if len(rate) else 0.0 for rate in rates.values()]
    labels = spread(ends, 0.075 * top)
    for i, (name, rate) in enumerate(rates.items()):
        x = shown + APART * (i - (len(rates) - 1) / 2)
        axis.plot(x, rate, label=LISTS[name][0], **STYLES[name])
        if len(x):
            where = (LAST_SHOWN + 0.9, labels[i])
            axis.plot([x[-1], where[0]], [ends[i], where[1]], color=STYLES[name]["color"], lw=0.6)
            axis.plot(*where, **STYLES[name] | {"ls": "", "clip_on": False})
            axis.annotate(
                LISTS[name][0], where, (7, 0), textcoords="offset points", va="center", fontsize=9
            )
    axis.set_xticks(range(LAST_SHOWN + 1), [*map(str, range(LAST_SHOWN)), f"{LAST_SHOWN}+"])
    axis.set(xlabel="events seen before the play", ylabel="hit@10")
    axis.set(xlim=(-0.4, LAST_SHOWN + LABEL_ROOM), ylim=(0, max([top, *labels]) * 1.06))
    axis.spines["bottom"].set_bounds(-0.4, LAST_SHOWN + 0.4)
    return figure


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Return heights that are at least a gap apart, in the same order, none of them lower.

    >>> spread([0.5, 0.2, 0.5], 0.25)
    [0.5, 0.2, 0.75]
    """
    result, least = [*heights], -np.inf
    for i in sorted(range(len(heights)), key=lambda i: heights[i]):
        result[i] = max(heights[i], least)
        least = result[i] + gap
    return result


def table_of(content: Replay) -> pd.DataFrame:
    """Return hit@10 by the number of events seen, as texts, with the gain of the blend."""
    rows = []
    for row in content.test:
        values = {"events seen": row.events_seen, "plays": row.plays}
        for name, (title, _) in LISTS.items():
            rate = getattr(row, name)
            if rate is not msgspec.UNSET:
                values[title] = f"{rate:.4f}"
        gain = row.gains["blend"]
        values |= {"blend − offline": signed(gain.gain), "95 % interval": interval(gain)}
        rows.append(values)
    return pd.DataFrame(rows)


def judged_table(choice: BlendingChoice) -> pd.DataFrame:
    """Return the blends that were judged beside the offline list, as texts."""
    rows = [
        (
            blend_name(each),
            f"{each.hit_rate:.4f}",
            signed(each.gain.gain),
            interval(each.gain),
            "served" if each.served else "",
        )
        for each in choice.judged
    ]
    offline = "" if any(each.served for each in choice.judged) else "served"
    rows.append(("offline list alone", f"{choice.offline:.4f}", "0.0000", "", offline))
    return pd.DataFrame(rows, columns=["rule", "hit@10", "− offline", "95 % interval", ""])


def page(content: Replay, hits: dict[str, np.ndarray], at: np.ndarray) -> Page:
    """Return the page of the content of replay.json.

    hits (plays,) bool by list and at (plays,) are what its part "test" was computed from.
    """
    result = Page("Replay: what do live events bring?")
    for text in replay_text.outcome(content):
        result.text(text)
    result.text(
        f"The plays of {content.users:,} users after the cut of the window “test” were "
        f"replayed in order. Before each of {len(at):,} plays, the lists below were made from "
        "what was known at that moment; then the play became an event. hit@10 is the share of "
        "these plays that were among the first 10 tracks of a list. Intervals come from a paired "
        "bootstrap: users are drawn again 2,000 times, the same ones for both lists."
    )
    result.terms(dict(LISTS[name] for name in hits), "The lists")
    if content.test:
        result.figure(
            curve(hits, at),
            "hit@10 by the number of events seen before the play. The broad line is the offline "
            "list. Lists with the same hits lie on one another, with their markers side by side.",
        )
        result.table(table_of(content), "hit@10 by the number of events seen")
        result.intervals(
            {
                f"after {replay_text.EVENTS[row.events_seen]}": Interval(*gain_of(row))
                for row in content.test
            },
            "{:+.4f}",
            "hit@10 of the blend less that of the offline list, with 95 % intervals",
            0.0,
        )
    if content.choice:
        chosen(result, content.choice)
    tried(result, content)
    result.table(settings_table(content.blending), "The rule that the release serves")
    return result


def gain_of(row: ReplayedPlays) -> tuple[float, float, float]:
    """Return the gain of the blend over the offline list, and the bounds of its interval."""
    return msgspec.structs.astuple(row.gains["blend"])


def chosen(page: Page, choice: BlendingChoice) -> None:
    """Add which blend was chosen, and why."""
    page.heading("How the rule was chosen")
    for text in replay_text.reasons(choice):
        page.text(text)
    if choice.judged:
        page.table(judged_table(choice), "Rules judged by users who took no part in their search")


def tried(page: Page, content: Replay) -> None:
    """Add the rules that were compared, as they were found on all users."""
    if not content.validation:
        return
    page.text(
        "These rules were compared on all of these users. “alternate” takes tracks from the online "
        "and the offline list in turn; “weighted” adds their scores, with the best weights found; "
        "“offline” ignores events. The weighted rule was found on the users that it is compared "
        "on, so its figure here is somewhat too high."
    )
    rows = [
        (rule.rule, ", ".join(rule.sources), rule.events, rule.neighbours, f"{rule.hit_rate:.4f}")
        if rule.rule != "offline"
        else (rule.rule, "", "", "", f"{rule.hit_rate:.4f}")
        for rule in content.validation
    ]
    columns = ["rule", "sources", "events", "neighbours", "hit@10"]
    page.table(pd.DataFrame(rows, columns=columns), "Rules by hit@10 on the window “validation”")


def settings_table(rule: Blending) -> pd.DataFrame:
    """Return the settings of a rule with what they mean."""
    settings = [
        (name, SETTINGS[name], ", ".join(value) if name == "sources" else value)
        for name, value in msgspec.to_builtins(rule).items()
    ]
    return pd.DataFrame(settings, columns=["setting", "meaning", "value"], dtype=object)
