"""The first screen of the evaluation page: the outcome, and how the lists were tested."""

from jobs.contract.results import Metrics, Ranking, Ratio
from jobs.data.bounds import ENOUGH_USERS
from jobs.reporting.page import Page
from jobs.reporting.terms import BEST, FINAL, PERSONAL, list_name

MIDNIGHT = "T00:00:00+00:00"  # of a date without a time
RANKER = "ranker"
SINGLE_ALS = "als"  # the generator that may itself be the best single one


def too_few_users(content: Metrics) -> str:
    """Return a sentence that says that the figures prove nothing, or "" if users are enough."""
    users = content.window.users
    if users >= ENOUGH_USERS:
        return ""
    have = "1 user has" if users == 1 else f"{users:,} users have"
    return (
        f"Only {have} a label, fewer than {ENOUGH_USERS}: the figures prove nothing about "
        "the quality of the lists."
    )


def conclusion(page: Page, content: Metrics) -> None:
    """Say which list is better by how much."""
    if warning := too_few_users(content):
        page.heading("Too few users")
        page.text(warning)
    at_10, over = all_at_10(content), content.comparisons
    opponents = opponents_of(content)
    sentences = [
        comparison_sentence(title, at_10[over[name].compared], over[name])
        for name, title in opponents.items()
    ]
    final = at_10[FINAL]
    page.text(" ".join([f"The final list has an NDCG@10 of {final['ndcg']:.4f}.", *sentences]))
    cards = {"NDCG@10 of the final list": number(final["ndcg"])}
    for name in opponents:
        key = over[name].compared
        cards[f"times that of {list_name(key)}"] = times(over[name].ratio)
    cards["users with a hit in the first 10"] = f"{final['hit']:.1%}"
    cards["tracks that anybody gets in the first 10"] = f"{final['coverage']:.1%}"
    page.facts(cards)
    page.text(
        "NDCG@10 looks at the first 10 tracks of each user's list. It counts the tracks that the "
        "user played afterwards (hits), higher places more than lower ones: 1 is the best possible "
        "list, 0 a list without a hit."
    )


def method(page: Page, content: Metrics, ranking: Ranking) -> None:
    """Say on which users and tracks the lists were tested, and what was chosen before."""
    window = content.window
    page.heading("How the lists were tested")
    new = "new to them " if window.heard == "exclude" else ""
    cut = window.cut.replace(MIDNIGHT, "")
    page.text(
        f"The lists were tested on {window.users:,} users and the {window.labels:,} tracks "
        f"{new}that they played after the cut, and were made without those plays. The cut is "
        f"{f'at {cut}' if window.split == 'time' else f'before {cut} of plays'}. "
        f"{window.warm:,} of the users have earlier plays. {window.cold:,} are new: for them "
        "every list is the top list."
    )
    without_plays = window.tracks - window.catalogue
    page.text(
        f"A list can contain each of the {window.catalogue:,} tracks that anybody had played "
        "before the cut; no sample of tracks is drawn. "
        + (
            f"The other {without_plays:,} of the {window.tracks:,} tracks in the catalogue had "
            "no play by then. A list can contain those of them that are found by their artists or "
            "genres; later plays of all others count as missed. "
            + (
                "(Among them are other ids of songs; their plays count as those of the song.) "
                if content.lists_by_id
                else ""
            )
            if without_plays
            else ""
        )
        + "A user without a hit counts as 0. A list that is too short is continued by the top list."
    )
    page.text(f"Why the plays are split by {window.split}: {window.reason}.".replace(MIDNIGHT, ""))
    page.text(
        "Nothing was chosen by these plays. The settings, the ranker and the way the final list is "
        f"ordered (here: {list_name(ranking.rule)}) were chosen on earlier plays, and so was "
        "the best single generator. "
        + (
            f"But there were only {ranking.users:,} users to choose by, fewer than {ENOUGH_USERS}. "
            "So the way the final list is ordered is the default. "
            if ranking.too_few
            else ""
        )
        + "The intervals come from a paired bootstrap (users are drawn "
        "again 2,000 times). They show how much a figure depends on which users were tested, not "
        "how much it would change in another period."
    )


def choice_of_rule(ranking: Ranking) -> str:
    """Say how sure it was on the window validation which rule is best, and whether test agrees.

    Empty where no rule was chosen.
    """
    if ranking.runner_up is None or ranking.over_runner_up is None:
        return ""
    rule, other = list_name(ranking.rule), list_name(ranking.runner_up)
    start = f"The final list uses: {rule}. The runner-up is: {other}."
    over = ranking.over_runner_up
    if over.known is None:
        return start
    value, low, high = over.known
    if low > 1:
        says = "so the choice is sure"
    elif high < 1:
        says = "but the ranker learned from fewer windows for it than for the final lists"
    else:
        says = "so the difference may be chance"
        if ranking.rule == RANKER:
            says += "; the ranker is used, since it is the best rule on most data"
    before = f"On the validation plays the first has {value:.3f} times the NDCG@10 of the second"
    test = ranking.ndcg_on_test
    after = ""
    if test.get(ranking.runner_up):
        here = test[ranking.rule] / test[ranking.runner_up]
        after = f" On the test plays, by which nothing was chosen, it has {here:.3f} times that."
        if (here > 1) != (value > 1):
            after += " The two windows disagree, so a difference of this size proves little."
    return f"{start} {before} (95 % interval {interval(over)}), {says}.{after}"


def opponents_of(content: Metrics) -> dict[str, str]:
    """Return the lists that the final list is compared with first, by their place in a sentence."""
    single = content.comparisons[BEST].compared
    if single == SINGLE_ALS:
        opponents = {BEST: f"the best single generator, {PERSONAL},"}
    else:
        name = list_name(single)
        opponents = {BEST: f"the best single generator ({name})", PERSONAL: PERSONAL}
    if baselines := content.peers:
        strongest = max(baselines, key=lambda name: baselines[name]["all"]["@10"]["ndcg"])
        opponents[strongest] = f"the best of the other models, {strongest},"
    return opponents


def comparison_sentence(opponent: str, theirs: dict[str, float], ratio: Ratio) -> str:
    """Return one comparison as a sentence."""
    start = f"{opponent[0].upper()}{opponent[1:]} has {theirs['ndcg']:.4f}"
    if ratio.known is None:
        return f"{start}, too little to compare with."
    value, low, high = ratio.known
    if low == high == 1:
        return f"{start}: the final list is that very list."
    if low > 1:
        outcome = "the final list is better"
    elif high < 1:
        outcome = "the final list is worse"
    else:
        outcome = "the difference may be chance"
    return f"{start}: {outcome}, {value:.3f} times as good (95 % interval {interval(ratio)})."


def all_at_10(content: Metrics) -> dict[str, dict[str, float]]:
    """Return the metrics at 10 over all users of every list that is compared, by its key."""
    generators = {name: content.generators[name] for name in compared_generators(content)}
    lists = {FINAL: content.lists[FINAL], **generators, **(content.peers or {})}
    return {name: kinds["all"]["@10"] for name, kinds in lists.items()}


def compared_generators(content: Metrics) -> list[str]:
    """Return the generators that have a list for anybody, or are compared in any case."""
    compared = {over.compared for over in content.comparisons.values()}
    candidates = content.candidates.generators
    return [name for name in candidates if candidates[name].users or name in compared]


def number(value: float | None) -> str:
    """Return a metric with four digits."""
    return "–" if value is None else f"{value:.4f}"


def times(ratio: float | None) -> str:
    """Return a ratio of two metrics."""
    return "–" if ratio is None else f"{ratio:.3f} ×"


def interval(ratio: Ratio) -> str:
    """Return the bounds of a ratio's interval."""
    return "–" if ratio.low is None else f"{ratio.low:.3f} to {ratio.high:.3f}"
