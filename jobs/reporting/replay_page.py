"""The page of the replay: what live events bring to the recommendations."""

import matplotlib.pyplot as plt
import msgspec
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from jobs.contract.blending import Blending
from jobs.reporting.page import WIDTH, Page
from jobs.selection.blending_search import EVENTS_SEEN, hit_rates
from jobs.selection.replay_sessions import Sessions

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


def table_of(hits: dict[str, np.ndarray], at: np.ndarray) -> pd.DataFrame:
    """Return hit@10 of each list by the number of events seen, and ratios to the offline list.

    `hits` (plays,) say by list which plays were hits; `at` (plays,) are the numbers of events
    before them. The columns are those of replay.json.
    """
    seen = np.minimum(at, len(EVENTS_SEEN) - 1)
    plays = np.bincount(seen, minlength=len(EVENTS_SEEN))
    rows = {name: pd.Series(hit_rates(hit, at)) for name, hit in hits.items()}
    result = pd.DataFrame({"plays": pd.Series(plays, EVENTS_SEEN)} | rows)[
        lambda table: table["plays"] > 0
    ]
    for name in ("blend", "exchanged"):
        if name in hits:
            result[f"{name} / offline"] = result[name] / result["offline"].where(
                result["offline"] > 0
            )
    return result.rename_axis("events seen").reset_index()


def curve(hits: dict[str, np.ndarray], at: np.ndarray) -> Figure:
    """Return a plot of hit@10 of each list after 0, 1, … events."""
    seen = np.minimum(at, LAST_SHOWN)
    plays = np.bincount(seen, minlength=LAST_SHOWN + 1)
    figure, axis = plt.subplots(figsize=(WIDTH, 3.4), layout="constrained")
    for name, hit in hits.items():
        rate = np.bincount(seen, hit, minlength=LAST_SHOWN + 1) / np.where(plays, plays, np.nan)
        axis.plot(range(LAST_SHOWN + 1), rate, marker="o", markersize=4, label=LISTS[name][0])
    axis.set_xticks(range(LAST_SHOWN + 1), [*map(str, range(LAST_SHOWN)), f"{LAST_SHOWN} or more"])
    axis.set(xlabel="events seen before the play", ylabel="hit@10", ylim=(0, None))
    figure.legend(loc="outside upper center", ncols=len(hits), frameon=False)
    return figure


def page(
    rule: Blending, tried: pd.DataFrame, hits: dict[str, np.ndarray], played: Sessions
) -> Page:
    """Return the page: `tried` are the rules with their hit@10 on the validation window."""
    result = Page("Replay: what do live events bring?")
    result.text(
        f"The plays of {len(played.tracks):,} users after the cut of the window “test” were "
        f"replayed in order. Before each of {len(played):,} plays, the lists below were made from "
        "what was known at that moment; then the play became an event. hit@10 is the share of "
        "these plays that were among the first 10 tracks of a list."
    )
    result.terms(dict(LISTS[name] for name in hits), "The lists")
    result.figure(curve(hits, played.at), "hit@10 by the number of events seen before the play")
    table = table_of(hits, played.at)
    ratios = {
        f"{name} / offline": f"{LISTS[name][0]} over offline" for name in ("blend", "exchanged")
    }
    for column in table.columns.intersection([*hits]):
        table[column] = table[column].map("{:.4f}".format)
    for column in table.columns.intersection([*ratios]):
        table[column] = table[column].map(lambda value: "–" if value != value else f"{value:.2f} ×")
    names = {name: title for name, (title, _) in LISTS.items()} | ratios
    result.table(table.rename(columns=names), "hit@10 by the number of events seen")
    result.heading("How the rule was chosen")
    if not tried.empty:
        result.text(
            "The rules below were compared on the earlier window “validation”, by the mean of "
            "hit@10 after 1, after 2, and after 3 or more events. “alternate” takes tracks from "
            "the online and the offline list in turn; “weighted” adds their scores, and is shown "
            "with the best weights found; “offline” ignores events."
        )
        shown = ["rule", "sources", "events", "neighbours", "hit@10"]
        rules = tried[shown].assign(**{"hit@10": tried["hit@10"].map("{:.4f}".format)})
        result.table(rules, "Rules by hit@10 on the validation window")
    settings = [
        (name, SETTINGS[name], ", ".join(value) if isinstance(value, list) else value)
        for name, value in msgspec.to_builtins(rule).items()
    ]
    result.table(
        pd.DataFrame(settings, columns=["setting", "meaning", "value"], dtype=object),
        "The rule that the release serves",
    )
    return result
