"""The report to read: what was compared on what, who won by how much, and why."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from jobs.reporting.evaluation_text import (
    BEST,
    FINAL,
    PERSONAL,
    Content,
    all_at_10,
    conclusion,
    grounds,
    interval,
    number,
    times,
    with_lists,
)
from jobs.reporting.page import Page, bars, dots

MEANINGS = {
    "popular": "the top list",
    "als": "personal ALS, the nearest tracks by the factorisation",
    "next_played": "what is played after the user's plays",
    "after_last": "what is played after the very last plays",
    "similar": "neighbours of the user's plays by the factorisation",
    "artist": "other tracks of the artists played",
    "replayed": "the user's own plays again",
}


ACCURACY = ("ndcg", "precision", "recall", "hit", "map")


BEYOND = ("coverage", "novelty", "popularity", "diversity", "serendipity")


GREY = "#8a94a6"


TOP_FEATURES = 20


def page(content: Content, ranking: Content) -> Page:
    """The page of what jobs.evaluate measured and jobs.rank chose."""
    result = Page("Evaluation")
    conclusion(result, content)
    grounds(result, content, ranking)
    levels(result, content)
    for_whom(result, content)
    beyond_accuracy(result, content)
    generators(result, content, ranking)
    if "peers" in content:
        other_models(result, content)
    if "ablation" in content:
        ablation(result, content["ablation"], content["window"])
    importances(result, ranking)
    every_list(result, content)
    return result


def levels(page: Page, content: Content) -> None:
    """NDCG@10 of everything that was compared."""
    at_10, bounds = all_at_10(content), content["intervals"]
    names = sorted(at_10, key=lambda name: -at_10[name]["ndcg"])
    page.heading("Who wins")
    figure = dots(
        [label(name, content) for name in names],
        [at_10[name]["ndcg"] for name in names],
        [bounds[name] for name in names],
        ["C0" if name == FINAL else "C1" if name in content.get("peers", {}) else GREY
         for name in names],
        "{:.4f}",
    )  # fmt: skip
    others = ", other models in orange" if "peers" in content else ""
    page.figure(
        figure,
        f"NDCG@10 with 95 % intervals: the final list in blue, single generators in grey{others}",
    )


def label(name: str, content: Content) -> str:
    """A list's name in a plot."""
    best = content["comparisons"][BEST]["list"] == name
    return f"{name} (best single generator)" if best else name


def for_whom(page: Page, content: Content) -> None:
    """The gain in each segment."""
    single = content["comparisons"][BEST]["list"]
    page.heading("For whom")
    known = {
        name: part
        for name, part in content["segments"].items()
        if part["over_best_single"]["low"] is not None
    }
    if known:
        over = [part["over_best_single"] for part in known.values()]
        figure = dots(
            list(known),
            [part["ratio"] for part in over],
            [[part["low"], part["high"]] for part in over],
            ["C0"] * len(known),
            "{:.3f}",
        )
        figure.axes[0].axvline(1, color=GREY, linestyle="--", linewidth=1)
        page.figure(figure, f"NDCG@10 of the final list over that of {single}, by segment")
    lists = [FINAL, single, *dict.fromkeys(n for n in ("als", "popular") if n != single)]
    rows = [
        {"segment": name, "": part["what"], "users": part["users"]}
        | {own: f"{part['ndcg@10'][own]:.4f}" for own in lists}
        | {f"over {single}": times(part["over_best_single"]["ratio"])}
        for name, part in content["segments"].items()
    ]
    page.table(pd.DataFrame(rows), "NDCG@10 by segment")
    page.text(
        "Users are in thirds by their plays before the cut. For tracks only the plays of such "
        "tracks count as right, and only the users who have any; the lists stay as they are. Cold "
        "users get the same list from everyone."
    )


def beyond_accuracy(page: Page, content: Content) -> None:
    """All metrics of all lists at 10."""
    at_10 = all_at_10(content)
    page.heading("More than accuracy")
    page.table(frame(at_10, ACCURACY), "All users, at 10")
    page.table(frame(at_10, BEYOND), "The same lists beyond accuracy")
    page.text(
        "Coverage is the share of the catalogue that stands in anybody's list. Novelty is the mean "
        "self-information of a track in bits, popularity the mean share of the users who had heard "
        f"it. Diversity is 1 − the mean cosine of the list's pairs {content['window']['diversity']}"
        ". Serendipity is the share of the places with a track that was played and that the user's "
        "top list would not have shown at the same length."
    )


def frame(metrics: dict[str, dict[str, float]], names: tuple[str, ...]) -> pd.DataFrame:
    """A row a list, a column a metric."""
    rows = [
        {"list": name} | {metric: f"{of[metric]:.4f}" for metric in names}
        for name, of in metrics.items()
    ]
    return pd.DataFrame(rows)


def generators(page: Page, content: Content, ranking: Content) -> None:
    """What each generator brings."""
    found, judged = content["candidates"], ranking["ndcg@10_on_validation"]
    report = content["generators"]
    page.heading("Where the tracks come from")
    names = sorted(with_lists(content), key=lambda name: -found["generators"][name]["recall"])
    shares = [found["union"], *(found["generators"][name]["recall"] for name in names)]
    page.figure(
        bars(["all together", *names], np.array(shares), "{:.1%}"),
        f"Candidate recall: the share of {found['labels']:,} tracks played after the cut by users "
        "with a past that is among the 100 candidates of each generator",
    )
    rows = [
        {
            "generator": name,
            "candidates": MEANINGS.get(name, ""),
            "recall": f"{found['generators'][name]['recall']:.1%}",
            "found by it alone": f"{found['generators'][name]['alone']:.1%}",
            "NDCG@10 on validation": number(judged.get(name)),
            "NDCG@10 on test": number(report[name]["all"]["@10"]["ndcg"]),
        }
        for name in names
    ]
    page.table(pd.DataFrame(rows))
    rules = {rule: value for rule, value in judged.items() if rule not in report}
    shown = ", ".join(f"{rule} {value:.4f}" for rule, value in rules.items())
    weights = {name: value for name, value in ranking["fusion_weights"].items() if value}
    weighed = ", ".join(f"{name} {value:g}" for name, value in weights.items())
    page.text(
        f"What is in no list can't be ranked: {found['union']:.1%} is the most that any order of "
        f"these candidates could reach. Beside the generators the window validation judged: "
        f"{shown}. What serves is: {ranking['rule']}. The fusion weighs {weighed}."
    )


def other_models(page: Page, content: Content) -> None:
    """What the peers were given."""
    page.heading("Other models")
    rows = []
    for name, told in content["peer_settings"].items():
        over = content["comparisons"][name]
        rows.append(
            {
                "model": name,
                "settings tried": told["settings_tried"],
                "chosen": ", ".join(f"{key} {value}" for key, value in told["setting"].items()),
                "on validation": number(told.get("ndcg@10_on_validation")),
                "on test": number(content["peers"][name]["all"]["@10"]["ndcg"]),
                "final list over it": times(over["ratio"]),
                "95 % interval": interval(over),
            }
        )
    page.table(pd.DataFrame(rows), "NDCG@10")
    page.text(
        "Same past, same users, same rule for heard tracks, the whole catalogue. Every setting of "
        "the grid was fitted in full size to the window validation, the best of them to this one."
    )


def ablation(page: Page, found: Content, facts: Content) -> None:
    """The ranker without each generator, and ALS by epoch."""
    left = {out: of for out, of in found["left_out"].items() if of["low"] is not None}
    page.heading("What the parts are worth")
    if left:
        names = sorted(left, key=lambda out: left[out]["ratio"])
        figure = dots(
            [f"without {name}" for name in names],
            [left[name]["ratio"] for name in names],
            [[left[name]["low"], left[name]["high"]] for name in names],
            ["C0" if name.startswith("nothing") else GREY for name in names],
            "{:.3f}",
        )
        page.figure(
            figure,
            "NDCG@10 of a ranker that never knew a generator over that of one with all "
            f"({left['nothing']['ndcg@10']:.4f}), users with a past; those in blue have all, "
            "learnt twice: what lies between them is chance",
        )
    if not (curve := found["als_by_epoch"]):
        return
    figure, axis = plt.subplots(figsize=(9, 3), layout="constrained")
    epochs = np.arange(1, len(curve) + 1)
    axis.plot(epochs, curve, marker="o", markersize=4)
    axis.axvline(facts["als_epochs"], color=GREY, linestyle="--", linewidth=1)
    axis.set(xlabel="epochs", ylabel="NDCG@10", ylim=(0, None))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    page.figure(figure, "Personal ALS after each epoch; the dashed line is where training ends")


def importances(page: Page, ranking: Content) -> None:
    """What the ranker looks at."""
    importance = pd.Series(ranking["feature_importance"], dtype=float)
    importance = importance.sort_values(ascending=False, kind="stable").head(TOP_FEATURES)
    if importance.empty:
        return
    page.heading("What the ranker looks at")
    figure = bars(importance.index, importance.to_numpy(), "{:.1f} %")
    page.figure(figure, f"The {len(importance)} most important features: share of its decisions")


def every_list(page: Page, content: Content) -> None:
    """The three kinds of list, for all, warm and cold users at every k."""
    page.heading("Three lists in full")
    page.text(
        f"Here {PERSONAL} is the file as it is, without the top list behind it: cold users get "
        "nothing from it."
    )
    for kind, of_k in content["lists"][FINAL].items():
        for k in of_k:
            at_k = {name: kinds[kind][k] for name, kinds in content["lists"].items()}
            page.table(frame(at_k, (*ACCURACY, *BEYOND)), f"{kind} users, {k}")
