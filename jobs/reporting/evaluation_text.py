"""In words: who won by how much, and on what; the first screen of the evaluation's page."""

from typing import Any

from jobs.reporting.page import Page

FINAL, BEST, PERSONAL = "final list", "best single generator", "personal ALS"


MIDNIGHT = "T00:00:00+00:00"  # says nothing


Content = dict[str, Any]


def conclusion(page: Page, content: Content) -> None:
    """Who won by how much."""
    at_10, over = all_at_10(content), content["comparisons"]
    shown = opponents(content)
    found = [
        in_words(title, at_10[over[name]["list"]], over[name]) for name, title in shown.items()
    ]
    ours = at_10[FINAL]
    page.text(" ".join([f"The final list reaches an NDCG@10 of {ours['ndcg']:.4f}.", *found]))
    cards = {"NDCG@10": number(ours["ndcg"])}
    cards |= {f"times {name}": times(over[name]["ratio"]) for name in shown}
    page.facts(cards | {"hit@10": f"{ours['hit']:.1%}", "coverage@10": f"{ours['coverage']:.1%}"})


def grounds(page: Page, content: Content, ranking: Content) -> None:
    """What was compared on what."""
    facts = content["window"]
    new = "new to them " if facts["heard"] == "exclude" else ""
    split = f"{facts['cut']}; {facts['split']} split: {facts['reason']}".replace(MIDNIGHT, "")
    page.text(
        f"Judged by {facts['users']:,} users and the {facts['labels']:,} tracks {new}that they "
        f"played after the cut ({split}). "
        f"{facts['warm']:,} of the users have a past, {facts['cold']:,} are cold: every list gives "
        f"those the top list. Lists are drawn from the whole catalogue of {facts['catalogue']:,} "
        "tracks, none sampled; a user without a hit counts as 0."
    )
    page.text(
        "Nothing was chosen by this window. Settings, the ranker and what serves (here: "
        f"{ranking['rule']}) come from the two windows before it, and the best single generator is "
        "the one that was best there. Intervals are of a paired bootstrap: users are drawn again "
        "2,000 times. They say how much hangs on these users, not on this window."
    )


def opponents(content: Content) -> dict[str, str]:
    """What the final list is held against first, as a sentence names it."""
    over = content["comparisons"]
    single = over[BEST]["list"]
    if single == "als":
        shown = {BEST: f"the best single generator, {PERSONAL},"}
    else:
        shown = {BEST: f"the best single generator ({single})", PERSONAL: PERSONAL}
    if peers := content.get("peers"):
        strongest = max(peers, key=lambda name: peers[name]["all"]["@10"]["ndcg"])
        shown[strongest] = f"the strongest of the other models, {strongest},"
    return shown


def in_words(opponent: str, theirs: dict[str, float], found: Content) -> str:
    """One comparison as a sentence."""
    start = f"{opponent[0].upper()}{opponent[1:]} reaches {theirs['ndcg']:.4f}"
    if found["low"] is None:
        return f"{start}, too little to compare with."
    if found["low"] == found["high"] == 1:
        return f"{start}: the final list is that very list."
    if found["low"] > 1:
        won = "the final list is better"
    elif found["high"] < 1:
        won = "the final list is worse"
    else:
        won = "on these users the two can't be told apart"
    return f"{start}: {won}, {found['ratio']:.3f} times as good (95 % interval {interval(found)})."


def all_at_10(content: Content) -> dict[str, dict[str, float]]:
    """Metrics at 10 over all users: the final list, each generator that has lists, each peer."""
    singles = {name: content["generators"][name] for name in with_lists(content)}
    kinds = {FINAL: content["lists"][FINAL], **singles, **content.get("peers", {})}
    return {name: of["all"]["@10"] for name, of in kinds.items()}


def with_lists(content: Content) -> list[str]:
    """The generators that have a list for anybody, and those that are compared anyway."""
    compared = {over["list"] for over in content["comparisons"].values()}
    bring = content["candidates"]["generators"]
    return [name for name in bring if bring[name]["users"] or name in compared]


def number(value: float | None) -> str:
    """A metric with four digits."""
    return "–" if value is None else f"{value:.4f}"


def times(ratio: float | None) -> str:
    """A ratio as the page shows it."""
    return "–" if ratio is None else f"{ratio:.3f} ×"


def interval(found: Content) -> str:
    """An interval in a table."""
    return "–" if found["low"] is None else f"{found['low']:.3f} to {found['high']:.3f}"
