"""Rank the candidates of all generators into each user's final list.

    python -m jobs.rank --work data

A ranker (CatBoost) learns from the windows which candidates were played after the cut. It is
compared with a weighted fusion of the generators (see ranking/fusion) and with each generator
alone, and the best of them orders the final lists (see ranking/ranker.best_rule):

    trained on                 makes the lists of    for
    train                      windows/validation    the choice of the rule, and jobs.replay
    train, validation          windows/test          jobs.evaluate and jobs.replay
    train, validation, test    WORK                  the service

With fewer than 50 users on "validation" nothing can be chosen: then the fusion with its default
weights orders all lists, and no ranker is trained.

Makes recommendations.parquet in these folders. ranking.json says which rule was chosen, and has the
NDCG@10 of every rule on "validation".

--new-share reserves a share of the places for tracks without a listen (see ranking/exploration),
and ranking.json has the NDCG@10 with it, too.
"""

import argparse
from collections.abc import Sequence

import numpy as np

from jobs.contract import storage
from jobs.contract.names import RANKING, WINDOWS
from jobs.contract.results import Ranking
from jobs.data.bounds import ENOUGH_USERS
from jobs.ranking import exploration, features
from jobs.ranking.candidates import GENERATORS
from jobs.ranking.ranker import (
    FUSION,
    FittedRankers,
    best_rule,
    collect_and_evaluate,
    listed_users,
    recommend,
)
from jobs.ranking.snapshot import Snapshot
from jobs.runtime import cli, memory, parallel


def main(argv: Sequence[str]) -> str:
    """Make recommendations.parquet in WORK and in the windows validation and test."""
    args = arguments(argv)
    parallel.set_threads(memory.check("rank", args))
    work = args.work
    train, validation, test = (work / "windows" / name for name in WINDOWS)
    snapshot = Snapshot.read(train)
    names = features.feature_names(snapshot)
    learned = [collect_and_evaluate(snapshot, listed_users(train, snapshot), None, "train")[0]]

    del snapshot  # freed before the next one is read, so that only one is in memory
    snapshot = Snapshot.read(validation)
    later = listed_users(validation, snapshot)
    share = args.new_share
    users = len(later.row)
    too_few = users < ENOUGH_USERS

    def fitted() -> FittedRankers:
        return FittedRankers.default() if too_few else FittedRankers.fit(learned, names)

    models = fitted()
    examples, ndcg, with_new = collect_and_evaluate(snapshot, later, models, "validation", share)
    rule = FUSION if too_few else best_rule(ndcg)
    recommend(validation, snapshot, later.row, rule, models, share)
    learned.append(examples)

    del snapshot
    snapshot, models = Snapshot.read(test), fitted()
    ranker, weights = models.ranker, models.weights
    importance = ranker.get_feature_importance(type="PredictionValuesChange") if ranker else []
    later = listed_users(test, snapshot)
    recommend(test, snapshot, later.row, rule, models, share)
    learned.append(collect_and_evaluate(snapshot, later, None, "test")[0])

    del snapshot
    snapshot, models = Snapshot.read(work), fitted()
    written = recommend(work, snapshot, np.arange(snapshot.data.shape[0]), rule, models, share)
    content = Ranking(
        rule=rule,
        ndcg_on_validation=ndcg,
        fusion_weights=dict(zip(GENERATORS, map(float, weights), strict=True)),
        feature_importance=dict(zip(names, map(float, importance), strict=False)),
        new_share=share,
        ndcg_with_new=with_new[rule],
        users=users,
        too_few=too_few,
    )
    storage.write_json(work / RANKING, content)
    shown = sorted(ndcg, key=lambda name: -ndcg[name])[:3]
    figures = ", ".join(f"{name} {ndcg[name]:.4f}" for name in shown)
    cost = f"; {with_new[rule]:.4f} with {share:.0%} of the places for new tracks" if share else ""
    if too_few:
        rule += f" with default weights, since {users:,} users are too few to choose by"
    return f"{written:,} rows by {rule}; NDCG@10 on the window validation: {figures}{cost}"


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = cli.parser(__doc__)
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
    return args


if __name__ == "__main__":
    cli.run(main)
