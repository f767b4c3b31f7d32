"""Rank the candidates of all sources into each user's final list.

    python -m jobs.rank --work data

A CatBoost model learns from the windows which candidates were played next: from "train", to be
judged on "validation" beside a weighted fusion of the generators (see fusion) and every one of them
alone; the best serves (see best_rule). Model and fusion learn again from "train" and "validation"
to make the lists of "test", and from all three to make those for tomorrow: recommendations.parquet
here and in windows/validation and windows/test. ranking.json says what was chosen and by how much.
"""

from collections.abc import Sequence

import numpy as np

from jobs.contract import storage
from jobs.contract.names import RANKING, WINDOWS
from jobs.contract.results import Ranking
from jobs.ranking import features
from jobs.ranking.candidates import GENERATORS
from jobs.ranking.ranker import (
    FittedRankers,
    best_rule,
    collect_and_evaluate,
    listed_users,
    recommend,
)
from jobs.ranking.snapshot import Snapshot
from jobs.runtime import cli, memory, parallel


def main(argv: Sequence[str]) -> str:
    """Make recommendations.parquet here and in the windows validation and test."""
    args = cli.parser(__doc__).parse_args(argv)
    parallel.set_threads(memory.check("rank", args))
    work = args.work
    train, validation, test = (work / "windows" / name for name in WINDOWS)
    past = Snapshot.read(train)
    names = features.feature_names(past)
    learnt = [collect_and_evaluate(past, listed_users(train, past), None, "train")[0]]

    del past  # as large as the next one
    past, models = Snapshot.read(validation), FittedRankers.fit(learnt, names)
    later = listed_users(validation, past)
    lessons, judged = collect_and_evaluate(past, later, models, "validation")
    rule = best_rule(judged)
    recommend(validation, past, later.row, rule, models)
    learnt.append(lessons)

    del past
    past, models = Snapshot.read(test), FittedRankers.fit(learnt, names)
    ranker, weights = models.ranker, models.weights
    importance = ranker.get_feature_importance(type="PredictionValuesChange") if ranker else []
    later = listed_users(test, past)
    recommend(test, past, later.row, rule, models)
    learnt.append(collect_and_evaluate(past, later, None, "test")[0])

    del past
    past, models = Snapshot.read(work), FittedRankers.fit(learnt, names)
    written = recommend(work, past, np.arange(past.data.shape[0]), rule, models)
    content = Ranking(
        rule=rule,
        ndcg_on_validation=judged,
        fusion_weights=dict(zip(GENERATORS, map(float, weights), strict=True)),
        feature_importance=dict(zip(names, map(float, importance), strict=False)),
    )
    storage.write_json(work / RANKING, content)
    shown = sorted(judged, key=lambda name: -judged[name])[:3]
    figures = ", ".join(f"{name} {judged[name]:.4f}" for name in shown)
    return f"{written:,} rows by {rule}; NDCG@10 on the window validation: {figures}"


if __name__ == "__main__":
    cli.run(main)
