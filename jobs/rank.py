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
from collections.abc import Sequence
from dataclasses import replace

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
    TREES,
    FittedRankers,
    Lists,
    Places,
    choose_rule,
    choose_trees,
    collect_and_evaluate,
    final_lists,
    listed_users,
    write_lists,
)
from jobs.ranking.snapshot import Snapshot
from jobs.runtime import cli, memory, parallel


def main(argv: Sequence[str]) -> str:
    """Make recommendations.parquet in WORK and in the windows validation and test."""
    args = arguments(argv)
    parallel.set_threads(memory.check("rank", args))
    compiling.set_by_size(args.work)
    work = args.work
    windows = work / "windows"
    validation, test = windows / "validation", windows / "test"
    learned, off = [], frozenset[str]()
    for window in reversed(train_windows(windows)):
        snapshot = Snapshot.read(window, off)
        later = listed_users(window, snapshot)
        if window.name == "train":  # the first of them, so that all later ones know what is off
            off = useless(snapshot, later)
            snapshot = replace(snapshot, switched_off=off)
        names = features.feature_names(snapshot)
        learned.append(collect_and_evaluate(snapshot, later, None, (), window.name).examples)
        del snapshot  # freed before the next one is read, so that only one is in memory

    snapshot = Snapshot.read(validation, off)
    later = listed_users(validation, snapshot)
    users = len(later.row)
    too_few = users < ENOUGH_USERS

    def fitted(trees: int, compared: int) -> FittedRankers:
        if too_few:
            return FittedRankers.default()
        return FittedRankers.fit(learned, names, trees, compared)

    # Where data are large, more trees would take too long for each user.
    models = fitted(TREES, TREES if compiling.is_used() else MORE_TREES)
    collected = collect_and_evaluate(
        snapshot, later, models, models.rules, "validation", listed_by=models.usual
    )
    lists = collected.lists
    trees, ndcg = choose_trees(collected.ndcg)
    learned.append(collected.examples)
    choice = None if too_few else choose_rule(ndcg)
    rule = choice.rule if choice else FUSION
    if (rule, trees) != (models.usual, models.trees):
        models = replace(models, trees=trees)
        lists = list(final_lists(snapshot, later.row, rule, models, AS_RANKED, "validation"))
    found = np.concatenate([np.empty((0, LIST_LENGTH), np.int32), *(items for items, _ in lists)])
    if too_few and args.artist_limit == "auto":
        limit = artist_limit.Choice(None, "the default, since users are too few to choose by", {})
    else:
        limit = artist_limit.choose(args.artist_limit, found, later.labels, snapshot.artists)
    places = Places(limit.limit, args.new_share)
    arranged = places.arrange_all(lists, snapshot, later.row)
    write_lists(validation, snapshot, later.row, arranged)
    ndcg_with_new = mean_ndcg(arranged, later.labels) if args.new_share and users else None

    del snapshot, collected, lists, arranged
    models = fitted(trees, trees)  # before the next snapshot is read, which takes memory too
    snapshot = Snapshot.read(test, off)
    ranker, weights = models.ranker, models.weights
    importance = ranker.get_feature_importance(type="PredictionValuesChange") if ranker else []
    later = listed_users(test, snapshot)
    compared = (choice.rule, choice.runner_up) if choice else ()
    listed_by = None if rule in GENERATORS else rule
    collected = collect_and_evaluate(snapshot, later, models, compared, "test", listed_by)
    if listed_by:
        lists_of_test = iter(places.arrange_all(collected.lists, snapshot, later.row))
    else:
        lists_of_test = final_lists(snapshot, later.row, rule, models, places, "test")
    write_lists(test, snapshot, later.row, lists_of_test)
    ndcg_on_test = collected.ndcg
    learned.append(collected.examples)

    del snapshot, collected, lists_of_test
    models = fitted(trees, trees)
    learned.clear()  # the examples take more memory than all lists of a block
    snapshot = Snapshot.read(work, off)
    everyone = np.arange(snapshot.data.shape[0])
    lists_of_all = final_lists(snapshot, everyone, rule, models, places, work.name)
    written = write_lists(work, snapshot, everyone, lists_of_all)
    shown_lists.write(work, snapshot)
    content = Ranking(
        rule=rule,
        ndcg_on_validation=means(ndcg),
        fusion_weights=dict(zip(GENERATORS, map(float, weights), strict=True)),
        feature_importance=dict(zip(names, map(float, importance), strict=False)),
        users=users,
        too_few=too_few,
        new_share=args.new_share,
        ndcg_with_new=ndcg_with_new,
        artist_limit=limit.limit,
        ndcg_by_artist_limit=limit.ndcg,
        runner_up=choice.runner_up if choice else None,
        over_runner_up=choice.over_runner_up if choice else None,
        ndcg_on_test=means(ndcg_on_test),
        switched_off=sorted(off),
        trees=trees if ranker else None,
    )
    storage.write_json(work / RANKING, content)
    by_rule = content.ndcg_on_validation
    shown = sorted(by_rule, key=lambda name: -by_rule[name])[:3]
    figures = ", ".join(f"{name} {by_rule[name]:.4f}" for name in shown)
    if too_few:
        rule += f" with default weights, since {users:,} users are too few to choose by"
    cost = (
        f"; {ndcg_with_new:.4f} with {args.new_share:.0%} of the places for new tracks"
        if ndcg_with_new is not None
        else ""
    )
    without = f"; without the candidates of {', '.join(sorted(off))}" if off else ""
    of_artist = "any number" if limit.limit is None else f"at most {limit.limit}"
    return (
        f"{written:,} rows by {rule}; NDCG@10 on the window validation: {figures}; "
        f"{of_artist} of the first 10 by one artist ({limit.reason}){cost}{without}"
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
