"""What the page of the replay says in words: functions of the very figures that its tables show."""

from collections.abc import Sequence
from statistics import fmean

from jobs.contract.results import BlendingChoice, Gain, JudgedBlend, Replay, ReplayedPlays
from jobs.data.bounds import ENOUGH_USERS

BETTER, WORSE, SAME, UNCLEAR = "better", "worse", "the same", "unclear"
EVENTS = {"0": "no event", "1": "1 event", "2": "2 events", "3+": "3 or more events"}
SHARE_NAMES = {1.0: "full weights", 0.5: "half the weights"}


def verdict(gain: Gain) -> str:
    """Return what an interval proves: better, worse, the same, or unclear.

    >>> [verdict(Gain(*each)) for each in ((0.1, 0.05, 0.2), (0.1, -0.1, 0.2), (0, 0, 0))]
    ['better', 'unclear', 'the same']
    """
    if gain.low > 0:
        return BETTER
    if gain.high < 0:
        return WORSE
    return SAME if gain.low == gain.high == 0 else UNCLEAR


def signed(value: float) -> str:
    """Return a difference of hit rates with its sign and four digits."""
    text = f"{value:+.4f}"
    return text.replace("-", "−") if float(text) else "0.0000"


def interval(gain: Gain) -> str:
    """Return the bounds of a gain's interval."""
    return f"{signed(gain.low)} to {signed(gain.high)}"


def listed(names: Sequence[str]) -> str:
    """Return names as a list in a sentence.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def after_events(content: Replay) -> list[ReplayedPlays]:
    """Return the rows of plays with an event before them."""
    return [row for row in content.test if row.events_seen != "0"]


def outcome(content: Replay) -> list[str]:
    """Return the paragraphs that say what live events bring on the window "test"."""
    rows, gain = after_events(content), content.gains.get("blend")
    if not rows or gain is None:
        return ["No play follows an event of its user, so nothing can be said about live events."]
    return [
        *few_replayed(content.users),
        " ".join([mean_sentence(content, gain), *by_events_seen(rows)]),
        *control(content),
    ]


def few_replayed(users: int) -> list[str]:
    """Return a warning where so few users were replayed that the figures prove nothing."""
    if users >= ENOUGH_USERS:
        return []
    were = "1 user was" if users == 1 else f"{users:,} users were"
    return [f"Only {were} replayed, fewer than {ENOUGH_USERS}: the figures prove nothing."]


def mean_sentence(content: Replay, gain: Gain) -> str:
    """Return the comparison of the blend with the offline list after an event, as a sentence."""
    rows = after_events(content)
    blend, offline = fmean(row.blend for row in rows), fmean(row.offline for row in rows)
    start = (
        f"After at least one event, hit@10 is {blend:.4f} for the blend and {offline:.4f} for the "
        f"offline list alone (means over {listed([row.events_seen for row in rows])} events seen)"
    )
    if content.blending.rule == "offline":
        return f"{start}. The rule that is served is “offline”, so the two lists are the same."
    return f"{start}: {compared(gain, 'the blend')}."


def compared(gain: Gain, ours: str) -> str:
    """Return what a gain proves, as the end of a sentence."""
    ends = {
        BETTER: f"{ours} is better, by",
        WORSE: f"{ours} is worse, by",
        UNCLEAR: "the difference may be chance; it is",
    }
    found = verdict(gain)
    if found == SAME:
        return "they do not differ"
    value = signed(gain.gain) if found == UNCLEAR else f"{abs(gain.gain):.4f}"
    return f"{ends[found]} {value} (95 % interval of the difference {interval(gain)})"


def by_events_seen(rows: Sequence[ReplayedPlays]) -> list[str]:
    """Return sentences that say after how many events the blend is better or worse than offline."""
    forms = {
        BETTER: "It is better after {}.",
        WORSE: "It is worse after {}.",
        UNCLEAR: "The difference may be chance after {}.",
        SAME: "The two lists do not differ after {}.",
    }
    found = [(verdict(row.gains["blend"]), EVENTS[row.events_seen]) for row in rows]
    if len(rows) == 1 or {kind for kind, _ in found} == {SAME}:
        return []
    by_kind = {kind: [name for each, name in found if each == kind] for kind in forms}
    return [form.format(listed(by_kind[kind])) for kind, form in forms.items() if by_kind[kind]]


def control(content: Replay) -> list[str]:
    """Return what the blend with the events of other users shows."""
    gain = content.over_control
    if gain is None or content.blending.rule == "offline":
        return []
    ends = {
        BETTER: "so it makes use of what these users played",
        WORSE: "so what these users played is not what brings its hits",
        UNCLEAR: "so it is not shown to make use of what these users played",
        SAME: "so it makes no use of what these users played",
    }
    return [
        "Compared with the control, in which the events are those of another user, "
        f"{compared(gain, 'the blend')}, {ends[verdict(gain)]}."
    ]


def blend_name(each: JudgedBlend) -> str:
    """Return the name of a blend that was judged."""
    if each.rule == "alternate":
        return "alternate"
    return f"{each.rule}, {SHARE_NAMES.get(each.share, f'{each.share:g} of the weights')}"


def reasons(choice: BlendingChoice) -> list[str]:
    """Return the paragraphs that say which blend was chosen and why."""
    if choice.reason == "few users":
        have = "1 user has" if choice.users == 1 else f"{choice.users:,} users have"
        return [
            f"Only {have} a play after an event in the window “validation”, fewer than "
            f"{ENOUGH_USERS}: too few to choose by. So the default rule is served."
        ]
    return [how_judged(choice), why_served(choice), *left_out(choice)]


def how_judged(choice: BlendingChoice) -> str:
    """Return how the blends were judged."""
    return (
        f"The rule was chosen by {choice.users:,} users of the earlier window “validation”, by the "
        "mean of hit@10 after 1, after 2, and after 3 or more events. The numbers of a rule were "
        "searched on two thirds of the users and judged by the others, three times in turn, so "
        "that everybody judges a rule that was found without them. The same rule with a part of "
        "its weights, which is nearer to the offline list, was judged beside it."
    )


def why_served(choice: BlendingChoice) -> str:
    """Return why the blend that is served was chosen, or the offline list."""
    served = next((each for each in choice.judged if each.served), None)
    if served is None:
        return (
            "The offline list alone is served, since every blend was surely worse: the intervals "
            "of all differences lie below 0."
        )
    name, gain = f"“{blend_name(served)}”", served.gain
    start = f"{name} is served, since it {why_first(choice, served)}."
    if choice.reason == "cautious":
        start += " The less is known, the more the offline list counts."
    ends = {
        BETTER: f"It was better than the offline list, by {gain.gain:.4f}",
        UNCLEAR: f"Its difference from the offline list, {signed(gain.gain)}, may be chance",
        SAME: "It did not differ from the offline list",
        WORSE: f"It was worse than the offline list, by {-gain.gain:.4f}",
    }
    found = verdict(gain)
    end = ends[found] + ("." if found == SAME else f" (95 % interval {interval(gain)}).")
    if found in (UNCLEAR, SAME):
        end += " Only blends that are surely worse than the offline list are not served."
    return f"{start} {end}"


def why_first(choice: BlendingChoice, served: JudgedBlend) -> str:
    """Return why a blend goes before the others that were judged, as the end of a sentence."""
    weighted = [each for each in choice.judged if each.rule == "weighted"]
    others = [each for each in weighted if not each.served]
    if served.rule == "alternate":
        if all(verdict(each.gain) == WORSE for each in weighted):
            return "alone was not surely worse than the offline list"
        return "was surely better than the weighted rule"
    if choice.reason == "cautious":
        best = max(others, key=lambda each: each.gain.gain)
        return (
            "is nearer to the offline list and not clearly worse than the best weighted rule, "
            f"“{blend_name(best)}”, which was better by no more than a standard error of the "
            "difference"
        )
    if all(verdict(each.gain) == WORSE for each in others):
        return "was the only weighted rule that was not surely worse than the offline list"
    return "was the best weighted rule"


def left_out(choice: BlendingChoice) -> list[str]:
    """Return which sources bring nothing in this data."""
    if not choice.missing:
        return []
    names = listed([f"“{name}”" for name in choice.missing])
    brings = "source {} brings" if len(choice.missing) == 1 else "sources {} bring"
    return [f"In this data the {brings.format(names)} no track, and so no hit."]
