"""The page of the evaluation: which list is better, by how much, for whom, and why."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator
from msgspec import UNSET

from jobs.contract.results import Ablation, ArtistLimit, EvaluatedWindow, Metrics, Ranking
from jobs.reporting.evaluation_text import (
    all_at_10,
    choice_of_rule,
    compared_generators,
    conclusion,
    interval,
    method,
    number,
    times,
)
from jobs.reporting.page import WIDTH, Interval, Page
from jobs.reporting.terms import (
    BEST,
    FINAL,
    GENERATORS,
    METRICS,
    SEGMENTS,
    feature_name,
    list_name,
    metric_name,
    three_lists,
)

ACCURACY = ("ndcg", "precision", "recall", "hit", "map")
BEYOND = ("coverage", "novelty", "popularity", "diversity", "serendipity")
GREY = "#8a94a6"
MOST_FEATURES = 20
USERS = {"all": "all users", "warm": "users with earlier plays", "cold": "new users"}


def page(content: Metrics, ranking: Ranking) -> Page:
    """Return the page of what jobs.evaluate measured and jobs.rank chose."""
    result = Page("Evaluation: how good are the lists?")
    conclusion(result, content)
    comparison(result, content)
    method(result, content, ranking)
    segments(result, content)
    limits(result, content)
    all_metrics(result, content)
    if content.artists:
        lists_of_one_artist(result, content.artists)
    generators(result, content, ranking)
    if content.peers:
        other_models(result, content)
    if content.ablation:
        ablation(result, content.ablation, content.window)
    importances(result, ranking)
    all_lengths(result, content)
    return result


def comparison(page: Page, content: Metrics) -> None:
    """Show NDCG@10 of all lists, and explain their names."""
    at_10, bounds = all_at_10(content), content.intervals
    baselines = content.peers or {}
    best = content.comparisons[BEST].compared
    names = sorted(at_10, key=lambda name: -at_10[name]["ndcg"])
    page.heading("Which list is best")
    meanings = {FINAL: "What the service recommends: the candidates of all generators, ordered."}
    meanings |= {
        list_name(name): GENERATORS[name][1]
        for name in names
        if name in compared_generators(content)
    }
    if baselines:
        meanings["those in orange"] = "Other models, for comparison."
    page.terms(meanings, "What the names mean")
    kinds = {FINAL: "main"} | dict.fromkeys(baselines, "other")
    page.intervals(
        {
            f"{list_name(name)} ({BEST})" if name == best else list_name(name): Interval(
                at_10[name]["ndcg"], bounds[name][0], bounds[name][1], kinds.get(name, "plain")
            )
            for name in names
        },
        "{:.4f}",
        "NDCG@10 with its 95 % interval: the final list in blue, single generators in grey"
        + (", other models in orange" if baselines else ""),
    )


def segments(page: Page, content: Metrics) -> None:
    """Show the final list against the best single generator for parts of users and tracks."""
    single = content.comparisons[BEST].compared
    page.heading("For which users and tracks")
    page.text(
        "Users with earlier plays are divided into thirds by the number of these plays. Tracks are "
        "divided by their plays before the cut: the most played ones that have a third of all "
        "plays together, the next third, and the rest. For a group of tracks, only plays of these "
        "tracks count as hits, and only users with such plays are counted. New users get the same "
        "list from every generator."
    )
    ratios = {
        SEGMENTS[name]: Interval(*known)
        for name, part in content.segments.items()
        if (known := part.over_best_single.known)
    }
    if ratios:
        page.intervals(
            ratios,
            "{:.3f}",
            f"NDCG@10 of the final list, divided by that of {list_name(single)}; right of the "
            "dashed line (1) the final list is better",
            reference=1,
        )
    lists = [FINAL, single, *(name for name in ("als", "popular") if name != single)]
    rows = [
        {"group": SEGMENTS[name], "what it is": part.what, "users": part.users}
        | {list_name(key): f"{part.ndcg[key]:.4f}" for key in lists}
        | {f"final list over {list_name(single)}": times(part.over_best_single.ratio)}
        for name, part in content.segments.items()
    ]
    page.table(pd.DataFrame(rows), "NDCG@10 by group")


def limits(page: Page, content: Metrics) -> None:
    """Show how much the candidates and their order each lose, by group."""
    rows = [
        {
            "group": SEGMENTS[name],
            "tracks played": f"{part.labels:,}",
            "among the candidates": f"{part.recall:.1%}",
            "best order of them": f"{part.best_order:.4f}",
            "final list": f"{part.ndcg[FINAL]:.4f}",
            "share reached": f"{part.ndcg[FINAL] / part.best_order:.0%}"
            if part.best_order
            else "–",
        }
        for name, part in content.segments.items()
        if part.recall is not None and part.best_order is not None
    ]
    if not rows:
        return
    page.heading("Where the lists lose")
    page.text(
        "A track that no generator proposes cannot be in the final list, and a proposed track can "
        "stand too low. The best order puts all candidates that the user played first: its NDCG@10 "
        "is what a ranker could reach at most, if it knew the future. Where few of the played "
        "tracks are among the candidates, better generators help; where the share reached is "
        "small, a better order does."
    )
    page.table(pd.DataFrame(rows), "What limits NDCG@10, by group")


def share(part: float, whole: float) -> str:
    """Return the share of a part in per cent."""
    return f"{part / whole:.0%}" if whole else "–"


def all_metrics(page: Page, content: Metrics) -> None:
    """Show all metrics of all lists at 10."""
    page.heading("More than one metric")
    similarity = content.window.diversity
    meanings = dict(METRICS.values())
    name, meaning = METRICS["diversity"]
    meanings[name] = f"{meaning.removesuffix('.')}, {similarity}."
    page.terms(meanings, "What the metrics mean, for the first 10 tracks of a list")
    at_10 = all_at_10(content)
    page.table(metrics_table(at_10, ACCURACY), "Accuracy, all users, first 10 tracks")
    page.table(metrics_table(at_10, BEYOND), "Beyond accuracy, the same lists")
    if content.lists_by_id:
        page.text(
            "Some songs have several ids. A list has a song once, under the id that is known best, "
            "and it is a hit if the song was played under any of its ids. If only the id that "
            "was played counted, the same lists would have these figures."
        )
        by_id = {name: kinds["all"]["@10"] for name, kinds in content.lists_by_id.items()}
        page.table(metrics_table(by_id, ACCURACY), "Accuracy by id, all users, first 10 tracks")


def lists_of_one_artist(page: Page, artists: ArtistLimit) -> None:
    """Show by how many artists the final lists are, with and without the limit for each artist."""
    page.heading("Lists of one artist")
    cost = 1 - artists.final.ndcg / artists.without.ndcg if artists.without.ndcg else 0.0
    rule = (
        "No limit is set for the tracks of one artist."
        if artists.limit is None
        else f"At most {artists.limit} of the first 10 tracks of a final list are by one artist, "
        f"where enough others are proposed. This changes NDCG@10 by {-cost:+.2%} here."
    )
    page.text(f"{rule} The figures are means over the users with earlier plays.")
    kinds = {FINAL: artists.final}
    if artists.limit is not None:
        kinds["without the limit"] = artists.without
    rows = [
        {
            "list": name,
            "artists in the first 10": f"{of.artists:.1f}",
            "most tracks by one artist": f"{of.most:.1f}",
            metric_name("coverage"): f"{of.coverage:.4f}",
            metric_name("ndcg"): number(of.ndcg),
        }
        for name, of in kinds.items()
    ]
    page.table(pd.DataFrame(rows), "The first 10 tracks of final lists")


def metrics_table(metrics: dict[str, dict[str, float]], names: tuple[str, ...]) -> pd.DataFrame:
    """Return a table with a row for each list and a column for each metric."""
    rows = [
        {"list": list_name(key)} | {metric_name(metric): f"{of[metric]:.4f}" for metric in names}
        for key, of in metrics.items()
    ]
    return pd.DataFrame(rows)


def generators(page: Page, content: Metrics, ranking: Ranking) -> None:
    """Show what each generator brings to the candidates."""
    candidates, validation = content.candidates, ranking.ndcg_on_validation
    names = sorted(
        compared_generators(content), key=lambda name: -candidates.generators[name].recall
    )
    page.heading("Where the tracks come from")
    page.text(
        "Each generator proposes candidates for each user; the ranker can only order what was "
        f"proposed. All generators together propose {candidates.union:.1%} of the "
        f"{candidates.labels:,} tracks that users with earlier plays played after the cut. No "
        "order of these candidates can reach more."
    )
    recalls = {"all together": candidates.union}
    recalls |= {list_name(name): candidates.generators[name].recall for name in names}
    page.bars(recalls, "{:.1%}", "Share of these tracks among the candidates of each generator")
    rows = [
        {
            "generator": list_name(name),
            "proposes of these tracks": f"{candidates.generators[name].recall:.1%}",
            "which no other does": f"{candidates.generators[name].alone:.1%}",
            "NDCG@10, validation": number(validation.get(name)),
            "NDCG@10, test": number(content.generators[name]["all"]["@10"]["ndcg"]),
        }
        for name in names
    ]
    page.table(
        pd.DataFrame(rows),
        "Choices were made by the validation figures, from earlier plays; the test figures are "
        "those of this page",
    )
    orders = [
        f"{list_name(rule)} {value:.4f}"
        for rule, value in validation.items()
        if rule not in content.generators
    ]
    weights = [
        f"{list_name(name)} {value:g}" for name, value in ranking.fusion_weights.items() if value
    ]
    if sentence := choice_of_rule(ranking):
        page.text(sentence)
    page.text(
        "Two ways to order the candidates were compared with the single generators by NDCG@10 on "
        f"the validation plays: {', '.join(orders)}. The final list uses: "
        f"{list_name(ranking.rule)}. The ranker is a CatBoost model; fusion adds the "
        f"generators' ranks with the weights {', '.join(weights)}."
    )


def other_models(page: Page, content: Metrics) -> None:
    """Show how the baselines were set up, and compare the final list with them."""
    page.heading("Other models")
    page.text(
        "Well-known models, trained on the same plays, for the same users, with the same rule for "
        "tracks already played. Each combination of settings was trained in full for the "
        "validation plays; the best one was trained again for this test."
    )
    rows = []
    peers = content.peers or {}
    for name, about in (content.peer_settings or {}).items():
        validation = about.ndcg_on_validation
        over = content.comparisons[name]
        settings = ", ".join(f"{key} {value}" for key, value in about.setting.items())
        rows.append(
            {
                "model": name,
                "settings tried": about.settings_tried,
                "best settings": settings,
                "NDCG@10, validation": number(None if validation is UNSET else validation),
                "NDCG@10, test": number(peers[name]["all"]["@10"]["ndcg"]),
                "final list over it": times(over.ratio),
                "95 % interval": interval(over),
            }
        )
    page.table(pd.DataFrame(rows))


def ablation(page: Page, results: Ablation, window: EvaluatedWindow) -> None:
    """Show the ranker without each generator, and ALS after each epoch."""
    parts = {out: known for out, of in results.left_out.items() if (known := of.known)}
    page.heading("What each generator is worth")
    if parts:
        complete = results.left_out["nothing"].ndcg
        page.text(
            "The ranker was trained again without each generator, as if it had never existed. It "
            "was also trained twice with all generators, the second time with its features in "
            "another order: differences as small as the one between these two (in blue) are "
            "chance."
        )
        page.intervals(
            {
                ablation_name(out): Interval(
                    *parts[out], "main" if out.startswith("nothing") else "plain"
                )
                for out in sorted(parts, key=lambda out: parts[out][0])
            },
            "{:.3f}",
            f"NDCG@10 of users with earlier plays, divided by that with all generators "
            f"({complete:.4f})",
            reference=1,
        )
    if not (curve := results.als_by_epoch):
        return
    figure, axis = plt.subplots(figsize=(WIDTH, 2.4), layout="constrained")
    epochs = np.arange(1, len(curve) + 1)
    axis.plot(epochs, curve, marker="o", markersize=4)
    axis.axvline(window.als_epochs, color=GREY, linestyle="--", linewidth=1)
    axis.set(xlabel="training epochs", ylabel="NDCG@10", ylim=(0, None))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    page.figure(
        figure,
        "Personal ALS after each training epoch, for users with earlier plays; the dashed line "
        "shows where training ends",
    )


def ablation_name(left_out: str) -> str:
    """Return what a ranker of the ablation has: left_out are keys of generators, or "nothing"."""
    if left_out.startswith("nothing"):
        return f"all generators{', trained again' if ',' in left_out else ''}"
    return f"without {' and '.join(map(list_name, left_out.split(' and ')))}"


def importances(page: Page, ranking: Ranking) -> None:
    """Show the features that the ranker uses most."""
    importance = pd.Series(ranking.feature_importance, dtype=float)
    importance = importance.sort_values(ascending=False, kind="stable").head(MOST_FEATURES)
    if importance.empty:
        return
    page.heading("What the ranker looks at")
    page.bars(
        {feature_name(str(key)): value for key, value in importance.items()},
        "{:.1f} %",
        f"The {len(importance)} most important features of the ranker, by CatBoost's feature "
        "importance (all features together have 100 %). A relative score is divided by the user's "
        "best one.",
    )


def all_lengths(page: Page, content: Metrics) -> None:
    """Show three lists for all users, users with earlier plays and new ones, at every length."""
    page.heading("Three lists at every length")
    lists = three_lists(content)
    for kind, lengths in lists[FINAL].items():
        for length in lengths:
            metrics = {name: kinds[kind][length] for name, kinds in lists.items()}
            page.table(
                metrics_table(metrics, (*ACCURACY, *BEYOND)),
                f"{USERS[kind]}, first {length.removeprefix('@')} tracks".capitalize(),
            )
