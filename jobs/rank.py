"""Rank the candidates of all generators into each user's final list.

    python -m jobs.rank --work data

A ranker (CatBoost) learns from the windows which candidates were played after the cut. It is
compared with a weighted fusion of the generators (see ranking/fusion) and with each generator
alone, and orders the final lists unless one of these is surely better (see
ranking/ranker.choose_rule):

    trained on                 makes the lists of    for
    train                      windows/validation    the choice of the rule, and jobs.replay
    train, validation          windows/test          jobs.evaluate and jobs.replay
    train, validation, test    WORK                  the service

Where data are small, a ranker of more trees is compared too (see ranking/ranker.choose_trees).

"train" stands for the windows train3 and train2 too, where jobs.windows has made them.

With fewer than 50 users on "validation" nothing can be chosen: then the fusion with its default
weights orders all lists, and no ranker is trained.

A generator that finds next to nothing in "train" that others don't find is left out, if the table
of generators allows that (see ranking/generators).

If it costs little on "validation", only a few of the first ten tracks of a list are by one artist;
--artist-limit sets how many (see ranking/artist_limit). --new-share reserves a share of the places
for tracks without a listen (see ranking/exploration).

Makes recommendations.parquet in these folders. ranking.json says which rule and limit were chosen,
and has the NDCG@10 of each on "validation". artist_tracks.parquet and forecast.parquet are what
the lists of two generators are made from, so that a release can show these.
"""

import argparse
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix

from jobs.contract import compiling, storage
from jobs.contract.names import LIST_LENGTH, RANKING
from jobs.contract.results import Ranking
from jobs.contract.storage import JobError
from jobs.data.bounds import ENOUGH_USERS
from jobs.data.splitting import train_windows
from jobs.evaluation.generator_lists import useless
from jobs.metrics import accuracy
from jobs.ranking import artist_limit, exploration, features, shown_lists
from jobs.ranking.generators import GENERATORS
from jobs.ranking.ranker import (
    AS_RANKED,
    FUSION,
    MORE_TREES,
    RANKER,
    TREES,
    BlockExamples,
    FittedRankers,
    Lists,
    Places,
    RuleChoice,
    choose_rule,
    choose_trees,
    collect_and_evaluate,
    final_lists,
    listed_users,
    write_lists,
)
from jobs.ranking.snapshot import Snapshot
from jobs.runtime import cli, memory, parallel


@dataclass
class Learned:
    """What the ranker learns from, window by window, and what holds for all later windows."""

    examples: list[list[BlockExamples]]  # of each window so far
    names: list[str]  # of the features
    off: frozenset[str]  # generators that are switched off
    too_few: bool = False  # whether users are too few to learn from

    def fitted(
        self, trees: int, compared: int, rules: Collection[str] = (RANKER, FUSION)
    ) -> FittedRankers:
        """Return these rules fitted to the windows so far, by a ranker of `compared` trees."""
        if self.too_few:
            return FittedRankers.default()
        return FittedRankers.fit(self.examples, self.names, trees, compared, rules)


class Chosen(NamedTuple):
    """What was chosen on the window `validation`."""

    rule: str
    trees: int
    places: Places
    users: int  # that it was chosen by
    ndcg: dict[str, np.ndarray]  # NDCG@10 of each rule, (users of the sample,)
    choice: RuleChoice | None  # None if users are too few
    limit: artist_limit.Choice
    ndcg_with_new: float | None  # NDCG@10 with places for new tracks; None without them


class Report(NamedTuple):
    """What was found out on the window `test`, by which nothing is chosen."""

    ndcg: dict[str, np.ndarray]  # of the rule and the runner-up, (users of the sample,)
    weights: np.ndarray  # of the fusion, (generators,)
    importance: Sequence[float]  # of the features; empty without a ranker


def main(argv: Sequence[str]) -> str:
    """Make recommendations.parquet in WORK and in the windows validation and test."""
    args = arguments(argv)
    parallel.set_threads(memory.check("rank", args))
    compiling.set_by_size(args.work)
    work, windows = args.work, args.work / "windows"
    # Each function frees the snapshot that it reads, so that only one is in memory at a time.
    learned = learn(windows)
    chosen = choose(windows / "validation", learned, args)
    report = report_on(windows / "test", learned, chosen)
    written = rank_everyone(work, learned, chosen)
    content = record(learned, chosen, report, args)
    storage.write_json(work / RANKING, content)
    return f"{written:,} rows by {summary(content, chosen)}"


def learn(windows: Path) -> Learned:
    """Return what the windows before `validation` teach."""
    learned = Learned([], [], frozenset())
    for window in reversed(train_windows(windows)):
        snapshot = Snapshot.read(window, learned.off)
        later = listed_users(window, snapshot)
        if window.name == "train":  # the first of them, so that all later ones know what is off
            learned.off = useless(snapshot, later)
            snapshot = replace(snapshot, switched_off=learned.off)
        learned.names = features.feature_names(snapshot)
        of_window = collect_and_evaluate(snapshot, later, None, (), window.name)
        learned.examples.append(of_window.examples)
        del snapshot  # before the next one is read
    return learned


def choose(window: Path, learned: Learned, args: argparse.Namespace) -> Chosen:
    """Choose the rule, its trees and the artist limit; write the lists of `validation`."""
    snapshot = Snapshot.read(window, learned.off)
    later = listed_users(window, snapshot)
    users = len(later.row)
    learned.too_few = users < ENOUGH_USERS
    # Where data are large, more trees would take too long for each user.
    models = learned.fitted(TREES, TREES if compiling.is_used() else MORE_TREES)
    collected = collect_and_evaluate(
        snapshot, later, models, models.rules, window.name, listed_by=models.usual
    )
    lists = collected.lists
    trees, ndcg = choose_trees(collected.ndcg)
    learned.examples.append(collected.examples)
    choice = None if learned.too_few else choose_rule(ndcg)
    rule = choice.rule if choice else FUSION
    if (rule, trees) != (models.usual, models.trees):
        models = replace(models, trees=trees)
        lists = list(final_lists(snapshot, later.row, rule, models, AS_RANKED, window.name))
    found = np.concatenate([np.empty((0, LIST_LENGTH), np.int32), *(items for items, _ in lists)])
    if learned.too_few and args.artist_limit == "auto":
        limit = artist_limit.Choice(None, "the default, since users are too few to choose by", {})
    else:
        limit = artist_limit.choose(args.artist_limit, found, later.labels, snapshot.artists)
    places = Places(limit.limit, args.new_share)
    arranged = places.arrange_all(lists, snapshot, later.row)
    write_lists(window, snapshot, later.row, arranged)
    ndcg_with_new = mean_ndcg(arranged, later.labels) if args.new_share and users else None
    return Chosen(rule, trees, places, users, ndcg, choice, limit, ndcg_with_new)


def report_on(window: Path, learned: Learned, chosen: Chosen) -> Report:
    """Write the lists of `test`, and return what the report says of the rules."""
    models = learned.fitted(chosen.trees, chosen.trees)  # before the snapshot takes memory too
    snapshot = Snapshot.read(window, learned.off)
    ranker, choice = models.ranker, chosen.choice
    importance = ranker.get_feature_importance(type="PredictionValuesChange") if ranker else []
    later = listed_users(window, snapshot)
    compared = (choice.rule, choice.runner_up) if choice else ()
    listed_by = None if chosen.rule in GENERATORS else chosen.rule
    collected = collect_and_evaluate(snapshot, later, models, compared, window.name, listed_by)
    if listed_by:
        lists = iter(chosen.places.arrange_all(collected.lists, snapshot, later.row))
    else:
        lists = final_lists(snapshot, later.row, chosen.rule, models, chosen.places, window.name)
    write_lists(window, snapshot, later.row, lists)
    learned.examples.append(collected.examples)
    return Report(collected.ndcg, models.weights, importance)


def rank_everyone(work: Path, learned: Learned, chosen: Chosen) -> int:
    """Write the final lists of all users; return the number of rows."""
    models = learned.fitted(chosen.trees, chosen.trees, [chosen.rule])
    learned.examples.clear()  # they take more memory than all lists of a block
    snapshot = Snapshot.read(work, learned.off)
    everyone = np.arange(snapshot.data.shape[0])
    lists = final_lists(snapshot, everyone, chosen.rule, models, chosen.places, work.name)
    written = write_lists(work, snapshot, everyone, lists)
    shown_lists.write(work, snapshot)
    return written


def record(learned: Learned, chosen: Chosen, report: Report, args: argparse.Namespace) -> Ranking:
    """Return the content of ranking.json."""
    choice, limit = chosen.choice, chosen.limit
    return Ranking(
        rule=chosen.rule,
        ndcg_on_validation=means(chosen.ndcg),
        fusion_weights=dict(zip(GENERATORS, map(float, report.weights), strict=True)),
        feature_importance=dict(zip(learned.names, map(float, report.importance), strict=False)),
        users=chosen.users,
        too_few=learned.too_few,
        new_share=args.new_share,
        ndcg_with_new=chosen.ndcg_with_new,
        artist_limit=limit.limit,
        ndcg_by_artist_limit=limit.ndcg,
        runner_up=choice.runner_up if choice else None,
        over_runner_up=choice.over_runner_up if choice else None,
        ndcg_on_test=means(report.ndcg),
        switched_off=sorted(learned.off),
        trees=chosen.trees if len(report.importance) else None,
    )


def summary(content: Ranking, chosen: Chosen) -> str:
    """Return by which rule the lists were made, and how good it and its rivals are."""
    by_rule, rule = content.ndcg_on_validation, content.rule
    shown = sorted(by_rule, key=lambda name: -by_rule[name])[:3]
    figures = ", ".join(f"{name} {by_rule[name]:.4f}" for name in shown)
    if content.too_few:
        rule += f" with default weights, since {content.users:,} users are too few to choose by"
    cost, with_new = "", content.ndcg_with_new
    if with_new is not None:
        cost = f"; {with_new:.4f} with {content.new_share:.0%} of the places for new tracks"
    off = content.switched_off
    without = f"; without the candidates of {', '.join(off)}" if off else ""
    of_artist = "any number" if content.artist_limit is None else f"at most {content.artist_limit}"
    return (
        f"{rule}; NDCG@10 on the window validation: {figures}; "
        f"{of_artist} of the first 10 by one artist ({chosen.limit.reason}){cost}{without}"
    )


def means(ndcg: dict[str, np.ndarray]) -> dict[str, float]:
    """Return the mean over users of each rule's NDCG@10 (users,); 0 without users."""
    return {name: float(values.mean()) if len(values) else 0.0 for name, values in ndcg.items()}


def mean_ndcg(lists: Sequence[Lists], labels: csr_matrix) -> float:
    """Return the mean NDCG@10 of blocks of lists, by labels (users, items)."""
    found = np.concatenate([items for items, _ in lists])
    return float(accuracy.per_user(found, labels, 10)["ndcg"].mean())


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = cli.parser(__doc__)
    parser.add_argument(
        "--artist-limit",
        default="auto",
        metavar="LIMIT",
        help="how many of the first 10 tracks of a list may be by one artist, 1 to 9 (default: "
        "auto, the smallest that costs at most 0.5 %% of NDCG@10 on the window validation)",
    )
    parser.add_argument(
        "--new-share",
        type=float,
        default=0.0,
        help="share of the places in final lists for tracks without a listen, 0 to 0.5 (default: "
        "0, where such a track is listed only if the ranker puts it there)",
    )
    args = parser.parse_args(argv)
    if not 0 <= args.new_share <= exploration.MOST:
        parser.error(f"--new-share is {args.new_share}, expected 0 to {exploration.MOST}")
    if args.artist_limit not in ("auto", artist_limit.OFF, *"123456789"):
        raise JobError(f"--artist-limit is {args.artist_limit}: expected auto, off, or 1 to 9")
    return args


if __name__ == "__main__":
    cli.run(main)
